#include "communicator.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

namespace pccl_python {

namespace {

using Clock = std::chrono::steady_clock;

/// Any number becomes a value of a C enumeration; the library refuses unknown values.
template <class E> E enumerator(int value) { return static_cast<E>(value); }

nb::tuple to_tuple(const pcclReduceReport_t &r) {
    return nb::make_tuple(r.world_size, r.tx_bytes, r.rx_bytes, static_cast<int>(r.algorithm), r.lanes, r.chunk_bytes, r.repairs,
                          r.fewest_took_part, r.fewest_elements, r.repair_tx_bytes, r.saved_tx_bytes);
}

pcclReduceReport_t empty_report() {
    pcclReduceReport_t report;
    (void)pcclReduceReportInit(&report);
    return report;
}

bool overlap(const View &a, const View &b) {
    const auto first = reinterpret_cast<std::uintptr_t>(a.data()), second = reinterpret_cast<std::uintptr_t>(b.data());
    return first < second + b.bytes() && second < first + a.bytes();
}

}  // namespace

pcclReduceDescriptor_t ReduceSpec::descriptor(std::size_t count, pcclDataType_t datatype) const {
    pcclReduceDescriptor_t d{};
    d.count = count;
    d.op = enumerator<pcclRedOp_t>(op);
    d.tag = tag;
    d.src_descriptor = {datatype, enumerator<pcclDistributionHint_t>(distribution_hint)};
    d.quantization_options = {enumerator<pcclDataType_t>(quantized_datatype),
                              enumerator<pcclQuantizationAlgorithm_t>(quantization)};
    return d;
}

pcclReduceOptions_t ReduceSpec::options() const {
    pcclReduceOptions_t o;
    (void)pcclReduceOptionsInit(&o);
    o.algorithm = enumerator<pcclReduceAlgorithm_t>(algorithm);
    o.quantization_block = quantization_block;
    o.quantization_scale = enumerator<pcclQuantizationScale_t>(quantization_scale);
    o.error_feedback = error_feedback;
    o.on_peer_loss = enumerator<pcclLossPolicy_t>(on_peer_loss);
    o.check_finite = check_finite;
    return o;
}

Operation::Operation(nb::object send, nb::object recv, std::uint64_t tag)
    : tag_(tag), send_(std::move(send)), recv_(std::move(recv)), report_(empty_report()) {}

void Operation::end(pcclResult_t result, const std::string &why) {
    state_ = State::ended;
    result_ = result;
    why_ = why;
    send_.reset();
    recv_.reset();
}

// -------------------------------------------------------------------------------------------------------------- life and end --

Communicator::Communicator(const pcclCommConfig_t &config) {
    check(pcclCreateCommunicatorWithConfig(&config, &comm_), "pcclCreateCommunicator");
}

Communicator::~Communicator() { close(); }

void Communicator::interrupt_calls() { (void)pcclAbort(comm_); }

void Communicator::release() { (void)pcclDestroyCommunicator(comm_); }

/// The library does not use any buffer from here on.
void Communicator::released() {
    const auto inflight = std::move(inflight_);
    inflight_.clear();
    for (const auto &[tag, operations] : inflight) {
        for (const auto &operation : operations)
            operation->end(pcclRankConnectionLost, "the communicator was closed");
    }
    const auto posts = std::move(posts_);
    posts_.clear();
    for (const auto &post : posts)
        post->end(pcclInvalidUsage, "the communicator was closed: it is not known whether the message was delivered");
}

// --------------------------------------------------------------------------------------------------------------- membership --

void Communicator::connect(std::optional<double> timeout) {
    blocking(*this, "pcclConnect", deadline_after(timeout), [&] { return pcclConnect(comm_); }).check("pcclConnect");
}

bool Communicator::are_peers_pending(std::optional<double> timeout) {
    bool pending = false;
    blocking(*this, "pcclArePeersPending", deadline_after(timeout), [&] {
        return pcclArePeersPending(comm_, &pending);
    }).check("pcclArePeersPending");
    return pending;
}

/// Makes a call that needs an idle communicator. Awaits operations whose handles were dropped first: no program can await these.
template <class F> void Communicator::exclusive(const char *function, std::optional<double> timeout, F call) {
    const Deadline deadline = deadline_after(timeout);
    check_usable(function);
    drain_dropped(deadline);
    blocking(*this, function, deadline, call).check(function);
}

void Communicator::update_topology(std::optional<double> timeout) {
    exclusive("pcclUpdateTopology", timeout, [&] { return pcclUpdateTopology(comm_); });
}

void Communicator::optimize_topology(std::optional<double> timeout) {
    exclusive("pcclOptimizeTopology", timeout, [&] { return pcclOptimizeTopology(comm_); });
}

int Communicator::get_attribute(int attribute) const {
    check_usable("pcclGetAttribute");
    int value = 0;
    check(pcclGetAttribute(comm_, enumerator<pcclAttribute_t>(attribute), &value), "pcclGetAttribute");
    return value;
}

void Communicator::abort() const {
    check_usable("pcclAbort");
    check(pcclAbort(comm_), "pcclAbort");
}

void Communicator::drop_error_feedback(std::uint64_t tag) const {
    check_usable("pcclDropErrorFeedback");
    check(pcclDropErrorFeedback(comm_, tag), "pcclDropErrorFeedback");
}

// ---------------------------------------------------------------------------------------------------------------- all-reduce --

/// Makes a collective call and returns its report. `call` makes the library's call with a descriptor, options and a report.
template <class F>
nb::tuple Communicator::collective(const char *function, const ReduceSpec &spec, std::size_t count, pcclDataType_t datatype,
                                   std::optional<double> timeout, F call) {
    const auto descriptor = spec.descriptor(count, datatype);
    const auto options = spec.options();
    auto report = empty_report();
    blocking(*this, function, deadline_after(timeout), [&] { return call(descriptor, options, report); }).check(function);
    return to_tuple(report);
}

nb::tuple Communicator::all_reduce(const View &send, const View &recv, const ReduceSpec &spec, std::size_t count,
                                   std::optional<double> timeout) {
    return collective("pcclAllReduce", spec, count, send.datatype(), timeout,
                      [&](const auto &descriptor, const auto &options, auto &report) {
                          return pcclAllReduceWithOptions(send.data(), recv.data(), &descriptor, &options, comm_, &report);
                      });
}

namespace {

pcclShard_t shard_of(const nb::tuple &fields) {
    return {nb::cast<std::uint64_t>(fields[0]), nb::cast<std::uint64_t>(fields[1]), nb::cast<std::uint64_t>(fields[2]),
            nb::cast<std::uint32_t>(fields[3]), nb::cast<std::uint32_t>(fields[4])};
}

}  // namespace

nb::tuple Communicator::shard(std::size_t count) const {
    check_usable("pcclGetShard");
    pcclShard_t s{};
    check(pcclGetShard(comm_, count, &s), "pcclGetShard");
    return nb::make_tuple(s.first, s.elements, s.membership, s.world_size, s.rank);
}

nb::tuple Communicator::reduce_scatter(const View &send, const View *recv, const ReduceSpec &spec, std::size_t whole,
                                       const nb::tuple &shard, std::optional<double> timeout) {
    const auto part = shard_of(shard);
    return collective("pcclReduceScatter", spec, whole, send.datatype(), timeout,
                      [&](const auto &descriptor, const auto &options, auto &report) {
                          return pcclReduceScatter(send.data(), recv ? recv->data() : nullptr, &descriptor, &part, &options,
                                                   comm_, &report);
                      });
}

nb::tuple Communicator::all_gather(const View *send, const View &recv, const ReduceSpec &spec, std::size_t whole,
                                   const nb::tuple &shard, std::optional<double> timeout) {
    const auto part = shard_of(shard);
    return collective(
        "pcclAllGather", spec, whole, recv.datatype(), timeout, [&](const auto &descriptor, const auto &options, auto &report) {
            return pcclAllGather(send ? send->data() : nullptr, recv.data(), &descriptor, &part, &options, comm_, &report);
        });
}

namespace {

/// Whether `part` is the memory of the shard inside `whole`: the halves then work in place.
bool is_part(const View *whole, const View *part, const pcclShard_t &shard) {
    if (!whole || !part || whole->count() == 0) return false;
    return part->data() == static_cast<std::byte *>(whole->data()) + shard.first * (whole->bytes() / whole->count());
}

/// The View that `object` holds; NULL for None.
const View *view_or_null(const nb::object &object) { return object.is_none() ? nullptr : &nb::cast<const View &>(object); }

bool overlap(const View *a, const View *b) { return a && b && overlap(*a, *b); }

}  // namespace

/// Whether a buffer of this operation overlaps one of an operation in flight. The library refuses such a launch, but only after
/// it has waited for the other operation.
bool Communicator::overlaps_inflight(const nb::object &send, const nb::object &recv) const {
    const View *const from = view_or_null(send), *const to = view_or_null(recv);
    for (const auto &[tag, operations] : inflight_) {
        for (const auto &operation : operations) {
            const View *const other_from = view_or_null(operation->send_), *const other_to = view_or_null(operation->recv_);
            if (overlap(to, other_to) || overlap(to, other_from) || overlap(from, other_to)) return true;
        }
    }
    return false;
}

/// Launches an operation and records it. `call` makes the library's call. `in_place`: the library allows that the buffers
/// overlap.
template <class F>
std::shared_ptr<Operation> Communicator::launch(const char *function, const nb::object &send, const nb::object &recv,
                                                const ReduceSpec &spec, std::size_t count, bool in_place, F call) {
    check_usable(function);
    const View *const from = view_or_null(send), *const to = view_or_null(recv);
    auto operation = std::make_shared<Operation>(send, recv, spec.tag);
    const auto descriptor = spec.descriptor(count, (from ? from : to)->datatype());
    const auto options = spec.options();
    pcclAsyncReduceOp_t handle{};
    const auto start = [&] {
        return call(from ? from->data() : nullptr, to ? to->data() : nullptr, descriptor, options, handle);
    };
    // The GIL is kept where the launch does not wait: launches are then recorded in the library's order.
    if ((!in_place && overlap(from, to)) || overlaps_inflight(send, recv))
        blocking(*this, function, {}, start).check(function);
    else
        check(start(), function);
    inflight_[spec.tag].push_back(operation);
    return operation;
}

std::shared_ptr<Operation> Communicator::all_reduce_async(const nb::object &send, const nb::object &recv, const ReduceSpec &spec,
                                                          std::size_t count) {
    const bool in_place = nb::cast<const View &>(send).data() == nb::cast<const View &>(recv).data();
    return launch("pcclAllReduceAsync", send, recv, spec, count, in_place,
                  [&](const void *from, void *to, const auto &descriptor, const auto &options, auto &handle) {
                      return pcclAllReduceAsyncWithOptions(from, to, &descriptor, &options, comm_, &handle);
                  });
}

std::shared_ptr<Operation> Communicator::reduce_scatter_async(const nb::object &send, const nb::object &recv,
                                                              const ReduceSpec &spec, std::size_t whole, const nb::tuple &shard) {
    const auto part = shard_of(shard);
    return launch("pcclReduceScatterAsync", send, recv, spec, whole, is_part(view_or_null(send), view_or_null(recv), part),
                  [&](const void *from, void *to, const auto &descriptor, const auto &options, auto &handle) {
                      return pcclReduceScatterAsync(from, to, &descriptor, &part, &options, comm_, &handle);
                  });
}

std::shared_ptr<Operation> Communicator::all_gather_async(const nb::object &send, const nb::object &recv, const ReduceSpec &spec,
                                                          std::size_t whole, const nb::tuple &shard) {
    const auto part = shard_of(shard);
    return launch("pcclAllGatherAsync", send, recv, spec, whole, is_part(view_or_null(recv), view_or_null(send), part),
                  [&](const void *from, void *to, const auto &descriptor, const auto &options, auto &handle) {
                      return pcclAllGatherAsync(from, to, &descriptor, &part, &options, comm_, &handle);
                  });
}

/// Awaits the oldest operation with this tag. A signal or the deadline ends the operation, which is then its outcome.
void Communicator::await_front(std::uint64_t tag, Deadline deadline) {
    const std::shared_ptr<Operation> operation = inflight_.at(tag).front();
    const pcclAsyncReduceOp_t handle{comm_, tag};
    operation->state_ = Operation::State::awaited;
    const Outcome outcome = blocking(*this, "pcclAwaitAsyncReduce", deadline,
                                     [&] { return pcclAwaitAsyncReduceWithReport(&handle, &operation->report_); });
    if (operation->state_ != Operation::State::ended) {  // else the communicator was closed meanwhile
        operation->end(outcome.result, outcome.why);
        auto &same_tag = inflight_.at(tag);
        same_tag.pop_front();
        if (same_tag.empty()) inflight_.erase(tag);
    }
    outcome.check("pcclAwaitAsyncReduce", false);
}

/// Waits while another thread awaits the operation.
void Communicator::await_elsewhere(const Operation &operation, Deadline deadline) {
    Outcome outcome;
    while (operation.state_ != Operation::State::ended) {
        wait_briefly();
        if (!deadline || Clock::now() < *deadline) continue;
        outcome = {pcclRankConnectionLost, {}, false, true};
        interrupt_calls();
    }
    outcome.check("pcclAwaitAsyncReduce");
}

nb::tuple Communicator::wait(const std::shared_ptr<Operation> &operation, std::optional<double> timeout) {
    const Deadline deadline = deadline_after(timeout);
    while (operation->state_ != Operation::State::ended) {
        check_usable("pcclAwaitAsyncReduce");
        const auto front = inflight_.at(operation->tag_).front();
        if (front->state_ == Operation::State::inflight)
            await_front(operation->tag_, deadline);
        else
            await_elsewhere(*front, deadline);
    }
    return nb::make_tuple(static_cast<int>(operation->result_), operation->why_, to_tuple(operation->report_));
}

/// Awaits operations whose handles were dropped.
void Communicator::drain_dropped(Deadline deadline) {
    std::vector<std::uint64_t> tags;
    for (const auto &[tag, operations] : inflight_)
        tags.push_back(tag);
    for (const std::uint64_t tag : tags) {
        for (;;) {
            const auto found = inflight_.find(tag);
            if (found == inflight_.end()) break;
            const auto &front = found->second.front();
            if (front.use_count() > 1 || front->state_ != Operation::State::inflight) break;
            await_front(tag, deadline);
        }
    }
}

nb::tuple Communicator::all_reduce_multiple_with_retry(const nb::list &operations, int max_in_flight,
                                                       std::optional<double> timeout) {
    std::vector<pcclReduceOpDescriptor_t> descriptors;
    for (const nb::handle each : operations) {
        const auto operation = nb::cast<nb::tuple>(each);
        const auto &send = nb::cast<const View &>(operation[0]), &recv = nb::cast<const View &>(operation[1]);
        const auto &spec = nb::cast<const ReduceSpec &>(operation[2]);
        descriptors.push_back({send.data(), recv.data(), spec.descriptor(nb::cast<std::size_t>(operation[3]), send.datatype())});
    }
    pcclReduceInfo_t info{};
    blocking(*this, "pcclAllReduceMultipleWithRetry", deadline_after(timeout), [&] {
        return pcclAllReduceMultipleWithRetry(descriptors.data(), descriptors.size(), comm_, &info, max_in_flight);
    }).check("pcclAllReduceMultipleWithRetry");
    return nb::make_tuple(info.local_world_size, info.tx_bytes, info.rx_bytes);
}

nb::tuple Communicator::synchronize(std::uint64_t revision, const nb::list &tensors, int strategy,
                                    std::optional<double> timeout) {
    std::deque<std::string> names;
    std::vector<pcclTensorInfo_t> infos;
    for (const nb::handle each : tensors) {
        const auto tensor = nb::cast<nb::tuple>(each);
        const auto &view = nb::cast<const View &>(tensor[1]);
        names.push_back(nb::cast<std::string>(tensor[0]));
        infos.push_back(
            {names.back().c_str(), view.data(), view.count(), view.datatype(), pcclDeviceCpu, nb::cast<bool>(tensor[2])});
    }
    pcclSharedState_t state{revision, infos.size(), infos.data()};
    pcclSharedStateSyncInfo_t info{};
    exclusive("pcclSynchronizeSharedState", timeout, [&] {
        return pcclSynchronizeSharedState(comm_, &state, enumerator<pcclSharedStateSyncStrategy_t>(strategy), &info);
    });
    return nb::make_tuple(state.revision, info.tx_bytes, info.rx_bytes);
}

// ------------------------------------------------------------------------------------------------------------------- binding --

namespace {

std::uint32_t milliseconds(std::optional<double> seconds, const char *name) {
    if (!seconds) return 0;
    if (!(*seconds > 0 && *seconds < 4e6))
        throw nb::value_error((std::string(name) + " is out of range: give seconds above 0 and below 4e6").c_str());
    return std::max(1U, static_cast<std::uint32_t>(*seconds * 1000));
}

const char *text(const std::optional<std::string> &value) { return value ? value->c_str() : nullptr; }

void make_communicator(Communicator *self, const std::string &address, std::uint32_t peer_group, std::uint32_t pool_size,
                       const std::optional<std::string> &listen_address, std::uint16_t first, std::uint16_t last,
                       const std::optional<std::string> &advertise_address, std::optional<double> connect_timeout,
                       const std::optional<std::string> &congestion_control, std::optional<double> master_limit, int compression,
                       std::uint64_t island, std::uint32_t island_peers) {
    pcclCommConfig_t config;
    (void)pcclCommConfigInit(&config);
    config.master_address = address.c_str();
    config.peer_group = peer_group;
    config.p2p_connection_pool_size = pool_size;
    config.listen_address = text(listen_address);
    config.listen_port_first = first;
    config.listen_port_last = last;
    config.advertise_address = text(advertise_address);
    config.connect_timeout_ms = milliseconds(connect_timeout, "connect_timeout");
    config.congestion_control = text(congestion_control);
    config.master_limit_ms = milliseconds(master_limit, "master_limit");
    config.compression = enumerator<pcclCompression_t>(compression);
    config.island = island;
    config.island_peers = island_peers;
    new (self) Communicator(config);
}

}  // namespace

void bind_communicator(nb::module_ &module) {
    nb::class_<ReduceSpec>(module, "ReduceSpec")
        .def(
            "__init__",
            [](ReduceSpec *self, int op, std::uint64_t tag, int hint, int quantized, int quantization, std::uint32_t block,
               int scale, bool feedback, int algorithm, int on_peer_loss, bool check_finite) {
                new (self) ReduceSpec{op,    tag,      hint,      quantized,    quantization, block,
                                      scale, feedback, algorithm, on_peer_loss, check_finite};
            },
            nb::arg("op"), nb::arg("tag"), nb::arg("distribution_hint"), nb::arg("quantized_datatype"), nb::arg("quantization"),
            nb::arg("quantization_block"), nb::arg("quantization_scale"), nb::arg("error_feedback"), nb::arg("algorithm"),
            nb::arg("on_peer_loss"), nb::arg("check_finite"));
    nb::class_<Operation>(module, "Operation").def_prop_ro("tag", &Operation::tag);
    const auto timeout = nb::arg("timeout").none() = nb::none();
    nb::class_<Communicator> communicator(module, "Communicator");
    communicator
        .def("__init__", &make_communicator, nb::arg("address"), nb::arg("peer_group"), nb::arg("p2p_connection_pool_size"),
             nb::arg("listen_address").none(), nb::arg("listen_port_first"), nb::arg("listen_port_last"),
             nb::arg("advertise_address").none(), nb::arg("connect_timeout").none(), nb::arg("congestion_control").none(),
             nb::arg("master_limit").none(), nb::arg("compression"), nb::arg("island"), nb::arg("island_peers"))
        .def_prop_ro("closed", &Communicator::closed)
        .def("close", &Communicator::close)
        .def("connect", &Communicator::connect, timeout)
        .def("update_topology", &Communicator::update_topology, timeout)
        .def("are_peers_pending", &Communicator::are_peers_pending, timeout)
        .def("optimize_topology", &Communicator::optimize_topology, timeout)
        .def("get_attribute", &Communicator::get_attribute, nb::arg("attribute"))
        .def("abort", &Communicator::abort)
        .def("drop_error_feedback", &Communicator::drop_error_feedback, nb::arg("tag"))
        .def("all_reduce", &Communicator::all_reduce, nb::arg("send"), nb::arg("recv"), nb::arg("spec"), nb::arg("count"),
             timeout)
        .def("shard", &Communicator::shard, nb::arg("count"))
        .def("reduce_scatter", &Communicator::reduce_scatter, nb::arg("send"), nb::arg("recv").none(), nb::arg("spec"),
             nb::arg("whole"), nb::arg("shard"), timeout)
        .def("all_gather", &Communicator::all_gather, nb::arg("send").none(), nb::arg("recv"), nb::arg("spec"), nb::arg("whole"),
             nb::arg("shard"), timeout)
        .def("all_reduce_async", &Communicator::all_reduce_async, nb::arg("send"), nb::arg("recv"), nb::arg("spec"),
             nb::arg("count"))
        .def("reduce_scatter_async", &Communicator::reduce_scatter_async, nb::arg("send"), nb::arg("recv").none(),
             nb::arg("spec"), nb::arg("whole"), nb::arg("shard"))
        .def("all_gather_async", &Communicator::all_gather_async, nb::arg("send").none(), nb::arg("recv"), nb::arg("spec"),
             nb::arg("whole"), nb::arg("shard"))
        .def("wait", &Communicator::wait, nb::arg("operation"), timeout)
        .def("all_reduce_multiple_with_retry", &Communicator::all_reduce_multiple_with_retry, nb::arg("operations"),
             nb::arg("max_in_flight"), timeout)
        .def("synchronize", &Communicator::synchronize, nb::arg("revision"), nb::arg("tensors"), nb::arg("strategy"), timeout);
    bind_exchange(module, communicator);
}

}  // namespace pccl_python
