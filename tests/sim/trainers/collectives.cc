#include "sim/trainers/collectives.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

namespace pccl::sim {

using train::Outcome;
using train::Reduce;

namespace {

constexpr Duration kSlowestStart = std::chrono::milliseconds(6);  // start of a worker's thread: longer than an inner step

/// The name of a tensor's content; 0 stands for no content.
std::uint64_t name_of_content(const pcclTensorInfo_t &tensor, std::size_t bytes) {
    const std::string_view content(static_cast<const char *>(tensor.data), bytes);
    return std::hash<std::string_view>{}(content) | 1U;
}

std::size_t element_size(const Reduce &reduce) { return train::size_of(reduce.what.src_descriptor.datatype); }

std::size_t bytes_given(const Reduce &reduce) {
    const bool part = reduce.kind == Reduce::Kind::all_gather;
    return (part ? reduce.shard->elements : reduce.what.count) * element_size(reduce);
}

std::size_t bytes_received(const Reduce &reduce, const pcclShard_t &shard) {
    const bool part = reduce.kind == Reduce::Kind::reduce_scatter;
    return (part ? shard.elements : reduce.what.count) * element_size(reduce);
}

train::Bytes bytes_of(const void *data, std::size_t bytes) {
    const auto *first = static_cast<const std::byte *>(data);
    return {first, first + bytes};
}

bool holds(const void *data, const train::Bytes &bytes) {
    return std::ranges::equal(std::span(static_cast<const std::byte *>(data), bytes.size()), bytes);
}

/// True for an average, whose contributions must not change between attempts. Other reductions build their input again for each
/// attempt.
bool is_average(const Reduce &reduce) {
    return reduce.what.src_descriptor.datatype == pcclFloat && reduce.send != reduce.recv &&
           reduce.kind != Reduce::Kind::all_gather;
}

}  // namespace

Outcome SimulatedCollectives::are_peers_pending(bool &pending) {
    const auto done = actor_.call(CallKind::ask);
    pending = done.pending;
    return outcome(done);
}

Outcome SimulatedCollectives::synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy,
                                          pcclSharedStateSyncInfo_t &info) {
    if (actor_.dead()) return Stage::gone();
    auto &modelled = actor_.node_.state;
    modelled = {state.revision, {}, 0};
    for (std::size_t i = 0; i < state.count; ++i) {
        const auto &tensor = state.infos[i];
        const std::size_t bytes = tensor.count * train::size_of(tensor.datatype);
        modelled.tensors.push_back(name_of_content(tensor, bytes));
        stage_.contents_[modelled.tensors.back()] = bytes_of(tensor.data, bytes);
        if (tensor.allow_content_inequality) ++modelled.free_to_differ;
    }
    const auto offered = modelled.tensors;
    const auto done = actor_.call(CallKind::sync, static_cast<wire::Strategy>(strategy));
    if (done.code != pcclSuccess) return outcome(done);
    state.revision = done.revision;
    for (std::size_t i = 0; i < state.count; ++i) {
        if (modelled.tensors[i] == offered[i]) continue;
        const auto &content = stage_.contents_.at(modelled.tensors[i]);
        std::memcpy(state.infos[i].data, content.data(), content.size());
        info.rx_bytes += content.size();
    }
    return {};
}

Outcome SimulatedCollectives::shard(std::size_t count, pcclShard_t &shard) {
    if (!connected()) return Stage::gone();
    shard = stage_.shard_at(actor_.node_, count);
    return {};
}

Outcome SimulatedCollectives::launch(const Reduce &reduce) {
    actor_.spend(stage_.cluster_.rng().between(Duration(0), stage_.stop_));
    if (actor_.dead()) return Stage::gone();
    check_repeated(reduce);
    auto pending = std::make_shared<Pending>();
    pending->reduce = reduce;
    launched_[reduce.what.tag].push_back(pending);
    stage_.giving_ = {bytes_of(reduce.send, bytes_given(reduce)), reduce.kind, reduce.shard ? *reduce.shard : pcclShard_t{},
                      reduce.what.count};
    actor_.begin(CallKind::reduce, pending, wire::Strategy::enforce_popular, Tag{reduce.what.tag},
                 mix(static_cast<std::uint64_t>(reduce.kind), mix(reduce.what.count, element_size(reduce))));
    return {};
}

Outcome SimulatedCollectives::await(std::uint64_t tag, train::ReduceReport &report) {
    auto &queue = launched_.at(tag);
    const auto pending = queue.front();
    queue.pop_front();
    const auto done = actor_.wait(*pending);
    if (actor_.dead()) return outcome(done);
    check_kept(*pending);
    if (done.code == pcclTooFewPeers) {  // no buffer was changed, and no member is left for a repetition
        to_repeat_.clear();
        return outcome(done);
    }
    to_repeat_.erase(tag);
    if (done.code != pcclSuccess) {
        spoil(*pending);
        return outcome(done);
    }
    const auto result = stage_.result(done.call, pending->reduce.what);
    std::ranges::copy(result, static_cast<std::byte *>(pending->reduce.recv));
    report = {stage_.took_part(done.call), result.size(), result.size()};
    return {};
}

void SimulatedCollectives::abort() {
    if (!actor_.dead()) stage_.cluster_.abort_calls(actor_.node_);
}

std::unique_ptr<train::Worker> SimulatedCollectives::worker() { return std::make_unique<SimulatedWorker>(actor_); }

void SimulatedCollectives::check_kept(const Pending &pending) {
    if (holds(pending.reduce.send, stage_.given_.at(pending.id).data)) return;
    stage_.misuse_ =
        actor_.node_.name + " changed a buffer during the reduction with tag " + std::to_string(pending.reduce.what.tag);
}

void SimulatedCollectives::check_repeated(const Reduce &reduce) {
    const auto found = to_repeat_.find(reduce.what.tag);
    if (found == to_repeat_.end() || !is_average(reduce) || holds(reduce.send, found->second)) return;
    stage_.misuse_ = actor_.node_.name + " repeated a reduction with other values, tag " + std::to_string(reduce.what.tag);
}

/// A failed call may leave any values in its receive buffer.
void SimulatedCollectives::spoil(const Pending &pending) {
    const Reduce &reduce = pending.reduce;
    const auto &given = stage_.given_.at(pending.id);
    if (is_average(reduce)) to_repeat_[reduce.what.tag] = given.data;
    if (reduce.send != reduce.recv)
        std::ranges::fill(std::span(static_cast<std::byte *>(reduce.recv), bytes_received(reduce, given.shard)), std::byte{0xff});
}

// --------------------------------------------------------------------------------------------------------------------- worker --

SimulatedWorker::~SimulatedWorker() {
    if (!thread_) return;
    stop_ = true;
    stage_.wake(actor_, *thread_);
    stage_.await([this] { return thread_->ended; });
}

/// The thread starts after a delay, as real threads do.
void SimulatedWorker::begin(Task task) {
    todo_.push_back(std::move(task));
    owner_ = stage_.turn_;
    const Duration after = stage_.cluster_.rng().between(Duration(0), kSlowestStart);
    if (thread_)
        stage_.wake(actor_, *thread_, after);
    else
        thread_ = &stage_.start(actor_, after, [this] { work(); });
}

void SimulatedWorker::wait() {
    stage_.await([this] { return ended_ != 0; });
    --ended_;
}

void SimulatedWorker::drop(const std::function<void()> &abort, std::chrono::milliseconds patience) {
    todo_.clear();
    for (Duration time = patience; running_; time = std::chrono::milliseconds(10)) {
        const Time until = stage_.now() + time;
        if (time != Duration(0)) stage_.wake(actor_, *stage_.turn_, time);
        stage_.await([&] { return !running_ || (stage_.now() >= until && !actor_.dead()); });
        if (running_) abort();
    }
    ended_ = 0;
}

void SimulatedWorker::work() {
    for (;;) {
        stage_.await([this] { return stop_ || !todo_.empty(); });
        if (stop_) break;
        const Task task = std::move(todo_.front());
        todo_.pop_front();
        running_ = true;
        task();
        running_ = false;
        ++ended_;
        stage_.wake(actor_, *owner_);
    }
    stage_.wake(actor_, *owner_);
}

}  // namespace pccl::sim
