#include "sim/trainers/exchange.h"

#include <algorithm>
#include <cstring>

namespace pccl::sim {

using train::Outcome;

namespace {

pcclPeerId_t rank_of(PeerId id) {
    pcclPeerId_t rank{};
    std::memcpy(rank.data, &id.value, sizeof id.value);
    return rank;
}

PeerId peer_of(const pcclPeerId_t &rank) {
    PeerId id;
    std::memcpy(&id.value, rank.data, sizeof id.value);
    return id;
}

Outcome outcome_of(const Status &status) { return status ? Outcome{} : Outcome{status.error().code, status.error().what}; }

Outcome gone() { return {pcclMasterConnectionFailed, "this peer is not in the run"}; }

}  // namespace

/// Waits until the post has an outcome, the timeout ends, or the peer is killed.
template <class Over> void SimulatedExchange::wait(std::uint32_t timeout_ms, Over over) {
    const bool for_ever = timeout_ms == PCCL_FOREVER;
    const Duration patience = std::chrono::milliseconds(for_ever ? 0 : timeout_ms);
    const Time end = stage_.now() + patience;
    Stage::Thread *const me = stage_.turn_;
    if (!for_ever && patience != Duration(0) && !actor_.dead()) stage_.wake(actor_, *me, patience);
    actor_.at_mail_.push_back(me);
    stage_.await([&] { return over() || actor_.dead() || (!for_ever && stage_.now() >= end); });
    std::erase(actor_.at_mail_, me);
}

Outcome SimulatedExchange::set_graph(const pcclGraphOptions_t &graph) {
    if (!connected()) return gone();
    actor_.node_.graph = {static_cast<wire::GraphKind>(graph.kind), graph.degree, graph.seed};
    const auto done = actor_.call(CallKind::graph);
    return {done.code, done.why};
}

Outcome SimulatedExchange::neighbours(std::vector<pcclPeerId_t> &out, std::uint64_t &epoch) {
    if (!connected()) return gone();
    const auto &told = actor_.mail_.neighbours();
    out.clear();
    std::ranges::transform(told.neighbours, std::back_inserter(out), rank_of);
    epoch = told.epoch;
    return {};
}

Outcome SimulatedExchange::post(const pcclPeerId_t &to, std::uint64_t tag, const void *data, std::size_t bytes,
                                std::uint32_t timeout_ms, std::uint64_t &number) {
    actor_.spend(stage_.cluster_.rng().between(Duration(0), stage_.stop_));
    if (!connected()) return gone();
    const PeerId receiver = peer_of(to);
    if (!actor_.mail_.members().contains(receiver) || receiver == actor_.node_.peer->id())
        return train::invalid("`to` is not another member");
    std::optional<Time> deadline;
    if (timeout_ms != PCCL_FOREVER) deadline = stage_.now() + std::chrono::milliseconds(timeout_ms);
    const auto *begin = static_cast<const std::byte *>(data);
    const auto post = actor_.mail_.post(receiver, Tag{tag}, begin, bytes, deadline);
    Letter &letter = stage_.letters_.emplace_back(Letter{actor_.node_.peer->id(), post, {begin, begin + bytes}});
    open_[number = ++last_] = &letter;
    actor_.note(letter, LetterEvent::posted);
    return {};
}

Outcome SimulatedExchange::await_post(std::uint64_t number, std::uint32_t timeout_ms) {
    const auto found = open_.find(number);
    if (found == open_.end()) return {pcclInvalidUsage, "no such message"};
    Letter &letter = *found->second;
    auto &office = actor_.mail_.office();
    wait(timeout_ms, [&] { return office.completed(*letter.post); });
    if (actor_.dead()) return gone();
    auto outcome = outcome_of(office.await(*letter.post, Time{}));
    if (outcome.code == pcclTimeout) return outcome;
    open_.erase(found);
    letter.told = outcome.ok() ? Letter::Told::delivered : Letter::Told::failed;
    actor_.note(letter, outcome.ok() ? LetterEvent::delivered : LetterEvent::failed);
    return outcome;
}

Outcome SimulatedExchange::receive(std::uint64_t tag, void *buffer, std::size_t capacity, std::uint32_t timeout_ms,
                                   pcclMessageInfo_t &info) {
    if (!connected()) return gone();
    auto &mail = actor_.mail_;
    peer::Message message;
    Status taken;
    wait(timeout_ms, [&] {
        taken = mail.office().take(Tag{tag}, capacity, Time{}, message);
        return taken.code() != pcclTimeout;
    });
    if (actor_.dead()) return gone();
    if (message.from != PeerId{}) info = {rank_of(message.from), tag, message.number, message.bytes};
    if (!taken) return outcome_of(taken);
    mail.room_made();
    std::copy_n(message.data.get(), message.bytes, static_cast<std::byte *>(buffer));
    const PeerId me = actor_.node_.peer->id();
    const auto letter = std::ranges::find_if(stage_.letters_, [&](const Letter &l) {
        return l.sender == message.from && l.post->to == me && l.post->number == message.number;
    });
    ++letter->received;
    actor_.note(*letter, LetterEvent::received);
    return {};
}

Outcome SimulatedExchange::limit_mailbox(std::uint64_t bytes, std::uint32_t messages) {
    if (actor_.dead()) return gone();
    actor_.mail_.office().set_limits({bytes, messages});
    actor_.mail_.room_made();
    return {};
}

}  // namespace pccl::sim
