// Messages between peers, and graphs of neighbours: the calls of <pccl/exchange.h>.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "communicator.h"

namespace pccl_python {

namespace {

using Clock = std::chrono::steady_clock;

/// In the library's milliseconds. Its own limit ends these calls: an abort would end others, too.
std::uint32_t limit_until(Deadline deadline) {
    if (!deadline) return PCCL_FOREVER;
    const double left = std::chrono::duration<double, std::milli>(*deadline - Clock::now()).count();
    return static_cast<std::uint32_t>(std::clamp(std::ceil(left), 0.0, double{PCCL_FOREVER - 1}));
}

nb::bytes name_of(const pcclPeerId_t &rank) { return nb::bytes(&rank, sizeof rank); }

pcclPeerId_t rank_of(const nb::bytes &name) {
    pcclPeerId_t rank{};
    if (name.size() != sizeof rank) throw nb::value_error("the name of a peer has 16 bytes");
    std::memcpy(&rank, name.c_str(), sizeof rank);
    return rank;
}

/// Returns the peers that a C function lists. Their number can grow between two calls of it.
template <class F> nb::list names(const char *function, F list) {
    std::vector<pcclPeerId_t> ranks;
    std::size_t count = 0;
    do {
        ranks.resize(count);
        check(list(ranks.data(), ranks.size(), &count), function);
    } while (count > ranks.size());
    nb::list all;
    for (std::size_t i = 0; i < count; ++i)
        all.append(name_of(ranks[i]));
    return all;
}

nb::object bytearray(std::size_t bytes) {
    PyObject *made = PyByteArray_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(bytes));
    if (!made) throw nb::python_error();
    return nb::steal(made);
}

}  // namespace

void Post::end(pcclResult_t result, std::string why) {
    ended_ = true;
    result_ = result;
    why_ = std::move(why);
    data_.reset();
}

nb::bytes Communicator::peer_id() const {
    check_usable("pcclGetPeerId");
    pcclPeerId_t rank{};
    check(pcclGetPeerId(comm_, &rank), "pcclGetPeerId");
    return name_of(rank);
}

nb::list Communicator::members() const {
    check_usable("pcclGetMembers");
    return names("pcclGetMembers", [&](auto *ranks, std::size_t capacity, std::size_t *count) {
        return pcclGetMembers(comm_, ranks, capacity, count, nullptr);
    });
}

nb::list Communicator::neighbours() const {
    check_usable("pcclGetNeighbours");
    return names("pcclGetNeighbours", [&](auto *ranks, std::size_t capacity, std::size_t *count) {
        return pcclGetNeighbours(comm_, ranks, capacity, count, nullptr);
    });
}

void Communicator::set_neighbour_graph(int kind, std::uint32_t degree, std::uint64_t seed) {
    const pcclGraphOptions_t options{static_cast<pcclGraphKind_t>(kind), degree, seed};
    blocking(*this, "pcclSetNeighbourGraph", {}, [&] {
        return pcclSetNeighbourGraph(comm_, &options);
    }).check("pcclSetNeighbourGraph");
}

void Communicator::set_mailbox(std::uint64_t max_bytes, std::uint32_t max_messages) const {
    check_usable("pcclSetMailbox");
    check(pcclSetMailbox(comm_, max_bytes, max_messages), "pcclSetMailbox");
}

std::shared_ptr<Post> Communicator::post(const nb::bytes &to, const nb::object &data, std::uint64_t tag,
                                         std::optional<double> timeout) {
    const char *const name = "pcclPost";
    check_usable(name);
    drain_dropped_posts();
    const auto rank = rank_of(to);
    const auto &view = nb::cast<const View &>(data);
    auto post = std::make_shared<Post>(data);
    check(pcclPost(comm_, &rank, tag, view.data(), view.bytes(), limit_until(deadline_after(timeout)), &post->handle_), name);
    posts_.push_back(post);
    return post;
}

Outcome Communicator::await_once(Post &post, std::uint32_t limit) {
    post.awaited_ = true;
    auto outcome = blocking(*this, "pcclAwaitPost", {}, [&] { return pcclAwaitPost(&post.handle_, limit); });
    post.awaited_ = false;
    if (outcome.result != pcclTimeout && !post.ended_) {  // closed meanwhile, otherwise
        post.end(outcome.result, outcome.why);
        std::erase_if(posts_, [&](const auto &other) { return other.get() == &post; });
    }
    return outcome;
}

/// Those whose handles were dropped, once their outcomes are known.
void Communicator::drain_dropped_posts() {
    const auto posts = posts_;
    for (const auto &post : posts) {
        if (post.use_count() == 2 && !post->awaited_) await_once(*post, 0);
    }
}

nb::object Communicator::await_post(const std::shared_ptr<Post> &post, std::optional<double> timeout) {
    const Deadline deadline = deadline_after(timeout);
    while (!post->ended_) {
        check_usable("pcclAwaitPost");
        if (!post->awaited_) {
            const Outcome outcome = await_once(*post, limit_until(deadline));
            if (outcome.raised) throw nb::python_error();
            if (outcome.result == pcclTimeout) return nb::none();
            continue;
        }
        wait_briefly();  // another thread awaits it
        if (!post->ended_ && deadline && Clock::now() >= *deadline) return nb::none();
    }
    return nb::make_tuple(static_cast<int>(post->result_), post->why_);
}

nb::object Communicator::receive(std::uint64_t tag, std::optional<double> timeout) {
    const char *const name = "pcclReceive";
    const Deadline deadline = deadline_after(timeout);
    pcclMessageInfo_t info{};
    std::size_t room = 0;
    for (;;) {
        const nb::object data = bytearray(room);
        const Outcome outcome = blocking(*this, name, {}, [&] {
            return pcclReceive(comm_, tag, room == 0 ? nullptr : PyByteArray_AS_STRING(data.ptr()), room, limit_until(deadline),
                               &info);
        });
        if (!outcome.raised && outcome.result == pcclTimeout) return nb::none();
        const bool too_large = outcome.result == pcclInvalidArgument && info.bytes > room;
        outcome.check(name, !too_large);
        if (!too_large) {
            if (info.bytes != room && PyByteArray_Resize(data.ptr(), static_cast<Py_ssize_t>(info.bytes)) != 0)
                throw nb::python_error();
            return nb::make_tuple(name_of(info.from), data, info.tag, info.sequence);
        }
        room = info.bytes;
    }
}

void bind_exchange(nb::module_ &module, nb::class_<Communicator> &communicator) {
    nb::class_<Post>(module, "Post");
    const auto timeout = nb::arg("timeout").none() = nb::none();
    communicator.def("peer_id", &Communicator::peer_id)
        .def("members", &Communicator::members)
        .def("neighbours", &Communicator::neighbours)
        .def("set_neighbour_graph", &Communicator::set_neighbour_graph, nb::arg("kind"), nb::arg("degree"), nb::arg("seed"))
        .def("set_mailbox", &Communicator::set_mailbox, nb::arg("max_bytes"), nb::arg("max_messages"))
        .def("post", &Communicator::post, nb::arg("to"), nb::arg("data"), nb::arg("tag"), timeout)
        .def("await_post", &Communicator::await_post, nb::arg("post"), timeout)
        .def("receive", &Communicator::receive, nb::arg("tag"), timeout);
}

}  // namespace pccl_python
