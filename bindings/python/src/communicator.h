// pcclComm_t for Python: blocking calls release the GIL, and buffers that the library uses are kept alive.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <pccl/exchange.h>

#include "runtime.h"
#include "view.h"

namespace pccl_python {

/// The description of a reduce, without its buffers. Values are those of the C enumerations; the library checks them.
struct ReduceSpec {
    int op = 0;
    std::uint64_t tag = 0;
    int distribution_hint = 0;
    int quantized_datatype = 0, quantization = 0;
    std::uint32_t quantization_block = 0;
    int quantization_scale = 0;
    bool error_feedback = false;
    int algorithm = 0;
    int on_peer_loss = 0;
    bool check_finite = false;

    pcclReduceDescriptor_t descriptor(std::size_t count, pcclDataType_t datatype) const;
    pcclReduceOptions_t options() const;
};

/// An operation that was launched. It lives until its handle is dropped and the library no longer uses its buffers.
class Operation {
public:
    /// `send` and `recv` are Views, or None for a part without elements.
    Operation(nb::object send, nb::object recv, std::uint64_t tag);

    std::uint64_t tag() const { return tag_; }

private:
    friend class Communicator;
    enum class State { inflight, awaited, ended };

    void end(pcclResult_t result, const std::string &why);

    const std::uint64_t tag_;
    nb::object send_, recv_;  ///< until it has ended
    State state_ = State::inflight;
    pcclResult_t result_ = pcclSuccess;
    std::string why_;
    pcclReduceReport_t report_;
};

/// A message that was posted. It lives until its handle is dropped and the library no longer reads its data.
class Post {
public:
    /// `data` is a View.
    explicit Post(nb::object data) : data_(std::move(data)) {}

private:
    friend class Communicator;

    void end(pcclResult_t result, std::string why);

    nb::object data_;  ///< until the outcome is known
    pcclPostOp_t handle_{};
    bool awaited_ = false, ended_ = false;
    pcclResult_t result_ = pcclSuccess;
    std::string why_;
};

class Communicator final : public Resource {
public:
    explicit Communicator(const pcclCommConfig_t &config);
    ~Communicator() override;

    /// For a trainer, which does not outlive the communicator.
    pcclComm_t *handle() const { return comm_; }

    void connect(std::optional<double> timeout);
    void update_topology(std::optional<double> timeout);
    bool are_peers_pending(std::optional<double> timeout);
    void optimize_topology(std::optional<double> timeout);
    int get_attribute(int attribute) const;
    void abort() const;
    void drop_error_feedback(std::uint64_t tag) const;

    nb::tuple all_reduce(const View &send, const View &recv, const ReduceSpec &spec, std::size_t count,
                         std::optional<double> timeout);
    /// (first, elements, membership, world_size, rank).
    nb::tuple shard(std::size_t count) const;
    /// `whole`: elements of the whole buffer. The part's view is None where it has no elements.
    nb::tuple reduce_scatter(const View &send, const View *recv, const ReduceSpec &spec, std::size_t whole,
                             const nb::tuple &shard, std::optional<double> timeout);
    nb::tuple all_gather(const View *send, const View &recv, const ReduceSpec &spec, std::size_t whole, const nb::tuple &shard,
                         std::optional<double> timeout);
    std::shared_ptr<Operation> all_reduce_async(const nb::object &send, const nb::object &recv, const ReduceSpec &spec,
                                                std::size_t count);
    /// The part is None where the shard has no elements, else a View.
    std::shared_ptr<Operation> reduce_scatter_async(const nb::object &send, const nb::object &recv, const ReduceSpec &spec,
                                                    std::size_t whole, const nb::tuple &shard);
    std::shared_ptr<Operation> all_gather_async(const nb::object &send, const nb::object &recv, const ReduceSpec &spec,
                                                std::size_t whole, const nb::tuple &shard);
    /// (result, error text, report). A second call returns the same.
    nb::tuple wait(const std::shared_ptr<Operation> &operation, std::optional<double> timeout);
    nb::tuple all_reduce_multiple_with_retry(const nb::list &operations, int max_in_flight, std::optional<double> timeout);
    /// `tensors`: (name, View, allow_content_inequality). Gives (revision, tx_bytes, rx_bytes).
    nb::tuple synchronize(std::uint64_t revision, const nb::list &tensors, int strategy, std::optional<double> timeout);

    // Messages and graphs. Peers are named by their 16 bytes.
    nb::bytes peer_id() const;
    nb::list members() const;
    nb::list neighbours() const;
    void set_neighbour_graph(int kind, std::uint32_t degree, std::uint64_t seed);
    void set_mailbox(std::uint64_t max_bytes, std::uint32_t max_messages) const;
    std::shared_ptr<Post> post(const nb::bytes &to, const nb::object &data, std::uint64_t tag, std::optional<double> timeout);
    /// (result, error text) once the outcome is known; None before. A second call returns the same.
    nb::object await_post(const std::shared_ptr<Post> &post, std::optional<double> timeout);
    /// (sender, data, tag, sequence), or None if none came in time.
    nb::object receive(std::uint64_t tag, std::optional<double> timeout);

private:
    const char *kind() const override { return "communicator"; }
    void interrupt_calls() override;
    void release() override;
    void released() override;

    template <class F> void exclusive(const char *function, std::optional<double> timeout, F call);
    template <class F>
    nb::tuple collective(const char *function, const ReduceSpec &spec, std::size_t count, pcclDataType_t datatype,
                         std::optional<double> timeout, F call);
    bool overlaps_inflight(const nb::object &send, const nb::object &recv) const;
    template <class F>
    std::shared_ptr<Operation> launch(const char *function, const nb::object &send, const nb::object &recv,
                                      const ReduceSpec &spec, std::size_t count, bool in_place, F call);
    void await_front(std::uint64_t tag, Deadline deadline);
    void await_elsewhere(const Operation &operation, Deadline deadline);
    void drain_dropped(Deadline deadline);

    Outcome await_once(Post &post, std::uint32_t limit);
    void drain_dropped_posts();

    pcclComm_t *comm_ = nullptr;
    /// Operations whose end is not known, by tag, in order of launch: the library requires that they are awaited in this order.
    std::map<std::uint64_t, std::deque<std::shared_ptr<Operation>>> inflight_;
    /// Messages whose outcome is not known.
    std::vector<std::shared_ptr<Post>> posts_;
};

void bind_communicator(nb::module_ &module);
void bind_exchange(nb::module_ &module, nb::class_<Communicator> &communicator);

}  // namespace pccl_python
