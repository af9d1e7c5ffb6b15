// A run within one process, for tests of trainers. It takes the place of the master and the network.
//
// Calls end as in the library: an operation succeeds at all members or fails at all, including members that call it later; the
// k-th question of a generation has one answer; newcomers are admitted when all members update the topology. A peer can be killed
// at its k-th call, before that call has any effect.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "base/float_mode.h"
#include "train/collectives.h"
#include "unit/train_arithmetic.h"

namespace pccl::train {

class FakeRun {
public:
    std::unique_ptr<Collectives> peer(int id);
    /// Messages between peers, for tests that need them.
    std::function<std::unique_ptr<Exchange>(int id)> make_exchange;
    /// Counts a call of peer `id` that is not one of Collectives. False: the peer is lost, now or earlier.
    bool calls_on(int id) {
        const std::lock_guard lock(mutex_);
        return !dies(id);
    }
    /// Makes the peers members from the beginning.
    void seat(const std::set<int> &ids) {
        const std::lock_guard lock(mutex_);
        members_ = ids;
        ++membership_;
    }
    std::set<int> members() {
        const std::lock_guard lock(mutex_);
        return members_;
    }
    /// Peer `id` will be lost at its call number `call`, counted from 1.
    void kill_at(int id, int call) {
        const std::lock_guard lock(mutex_);
        kill_at_[id] = call;
    }
    int calls(int id) {
        const std::lock_guard lock(mutex_);
        return calls_[id];
    }
    /// The number of its questions for newcomers since the last admission.
    std::size_t questions(int id) {
        const std::lock_guard lock(mutex_);
        return questions_[id];
    }
    /// The run does not wait for a peer that ended without leaving. If it was the last member and has `finished`, the run has
    /// finished, and later newcomers are refused.
    void leave(int id, bool finished = false) {
        const std::lock_guard lock(mutex_);
        const bool last = members_ == std::set{id};
        over_ = over_ || (finished && last);
        lose(id);
    }
    /// Blocks until `id` waits to be admitted or is lost.
    void await_newcomer(int id) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return pending_.contains(id) || members_.contains(id) || dead_.contains(id); });
    }
    bool is_dead(int id) {
        const std::lock_guard lock(mutex_);
        return dead_.contains(id);
    }

private:
    friend class FakePeer;

    struct Call {
        int id;
        const void *send;
        void *recv;
        pcclReduceDescriptor_t what;
        Reduce::Kind kind = Reduce::Kind::all_reduce;
        pcclShard_t shard{};
        pcclResult_t code = pcclSuccess;
        std::uint32_t world = 0;
        bool done = false;
    };
    using CallPtr = std::shared_ptr<Call>;
    struct TagState {
        std::uint32_t next = 0;
        std::uint32_t owed = 0;
    };
    struct Offer {
        pcclSharedState_t *state;
        pcclSharedStateSyncStrategy_t strategy;
        pcclSharedStateSyncInfo_t *info;
        pcclResult_t code = pcclSuccess;
        bool done = false;
    };

    bool dies(int id) {  // with the lock held
        ++calls_[id];
        const auto found = kill_at_.find(id);
        if (found != kill_at_.end() && calls_[id] == found->second) lose(id);
        return dead_.contains(id);
    }

    void lose(int id) {
        dead_.insert(id);
        pending_.erase(id);
        updating_.erase(id);
        if (members_.erase(id) != 0) {
            ++membership_;
            new_epoch();
        }
        changed_.notify_all();
    }

    void new_epoch() {
        std::map<std::uint64_t, std::uint32_t> reached;
        for (const auto &[key, calls] : ops_) {
            if (!calls.empty()) reached[key.first] = std::max(reached[key.first], key.second + 1);
            for (const auto &call : calls)
                end(*call, pcclRankConnectionLost);
        }
        for (const auto &[id, tags] : tags_)
            for (const auto &[tag, state] : tags)
                reached[tag] = std::max(reached[tag], state.next);
        ops_.clear();
        failed_.clear();
        for (const int id : members_) {
            for (const auto &[tag, next] : reached) {
                TagState &state = tags_[id][tag];
                state.owed += next - state.next;
                state.next = 0;
            }
        }
        for (auto &[id, offer] : offers_) {
            offer->code = pcclRankConnectionLost;
            offer->done = true;
        }
        offers_.clear();
        ++lost_updates_;
        updating_.clear();
    }

    static void end(Call &call, pcclResult_t code) {
        call.code = code;
        call.done = true;
    }

    void carry_out(std::vector<CallPtr> &calls) {
        const FloatMode mode;  // as on a thread of the library
        std::ranges::sort(calls, {}, [](const CallPtr &c) { return c->id; });
        if (calls.front()->kind == Reduce::Kind::all_gather)
            gather(calls);
        else
            combine(calls);
        for (const auto &call : calls) {
            call->world = static_cast<std::uint32_t>(calls.size());
            end(*call, pcclSuccess);
        }
    }

    static void combine(const std::vector<CallPtr> &calls) {
        const auto &what = calls.front()->what;
        std::vector<const void *> sends;
        for (const auto &call : calls)
            sends.push_back(call->send);
        const Bytes result = reduced(sends, what);
        const std::size_t size = size_of(what.src_descriptor.datatype);
        for (const auto &call : calls) {
            const bool whole = call->kind == Reduce::Kind::all_reduce;
            const std::size_t first = whole ? 0 : call->shard.first, count = whole ? what.count : call->shard.elements;
            if (count != 0) std::memcpy(call->recv, result.data() + first * size, count * size);
        }
    }

    static void gather(const std::vector<CallPtr> &calls) {
        for (const auto &to : calls)
            for (const auto &from : calls)
                if (from->shard.elements != 0) {
                    std::memcpy(static_cast<float *>(to->recv) + from->shard.first, from->send,
                                from->shard.elements * sizeof(float));
                }
    }

    static std::size_t bytes(const pcclTensorInfo_t &t) { return t.count * size_of(t.datatype); }

    void elect() {
        std::vector<Offer *> holders;
        std::uint64_t highest = 0;
        bool sender = false;
        for (const auto &[id, offer] : offers_)
            sender |= offer->strategy == PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY;
        for (const auto &[id, offer] : offers_) {
            if (offer->strategy == PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY) continue;
            if (sender && offer->strategy != PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY) continue;
            highest = std::max(highest, offer->state->revision);
        }
        for (const auto &[id, offer] : offers_) {
            const bool gives = sender ? offer->strategy == PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY
                                      : offer->strategy != PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY;
            if (gives && offer->state->revision == highest) holders.push_back(offer.get());
        }
        Offer *best = nullptr;
        std::ptrdiff_t votes = 0;
        for (Offer *a : holders) {
            const auto n = std::ranges::count_if(holders, [&](Offer *b) { return same(*a->state, *b->state); });
            if (n > votes) {
                votes = n;
                best = a;
            }
        }
        for (auto &[id, offer] : offers_) {
            offer->done = true;
            if (!best) {
                offer->code = pcclNoSharedStateAvailable;
                continue;
            }
            for (std::size_t i = 0; i < best->state->count; ++i) {
                const auto &from = best->state->infos[i];
                auto &to = offer->state->infos[i];
                if (to.allow_content_inequality && offer->state->revision == highest) continue;
                if (std::strcmp(from.name, to.name) != 0)
                    offer->code = pcclInvalidUsage;
                else if (from.data != to.data && std::memcmp(from.data, to.data, bytes(from)) != 0) {
                    std::memcpy(to.data, from.data, bytes(from));
                    offer->info->rx_bytes += bytes(from);
                }
            }
            offer->state->revision = best->state->revision;
        }
        offers_.clear();
    }

    static bool same(const pcclSharedState_t &a, const pcclSharedState_t &b) {
        for (std::size_t i = 0; i < a.count; ++i)
            if (!a.infos[i].allow_content_inequality && std::memcmp(a.infos[i].data, b.infos[i].data, bytes(a.infos[i])) != 0)
                return false;
        return true;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::uint64_t membership_ = 0;
    bool over_ = false;
    std::set<std::pair<std::uint64_t, std::uint32_t>> failed_;  // operations of this epoch
    std::set<int> members_, pending_, updating_, dead_;
    std::map<int, int> calls_, kill_at_;
    std::map<std::pair<std::uint64_t, std::uint32_t>, std::vector<CallPtr>> ops_;  // by tag and number
    std::map<int, std::map<std::uint64_t, TagState>> tags_;
    std::map<int, std::map<std::uint64_t, std::deque<CallPtr>>> launched_;
    std::map<int, std::shared_ptr<Offer>> offers_;
    std::uint64_t updates_ = 0, lost_updates_ = 0;
    std::vector<bool> answers_;
    std::map<int, std::size_t> questions_;
};

class FakePeer final : public Collectives {
public:
    FakePeer(FakeRun &run, int id) : run_(run), id_(id) {
        if (run.make_exchange) exchange_ = run.make_exchange(id);
    }
    Exchange *exchange() override { return exchange_.get(); }

    std::uint32_t world() override {
        const std::lock_guard lock(run_.mutex_);
        return run_.members_.contains(id_) ? static_cast<std::uint32_t>(run_.members_.size()) : 0;
    }

    std::uint64_t self() override { return static_cast<std::uint64_t>(id_) + 1; }

    bool connected() override {
        const std::lock_guard lock(run_.mutex_);
        return run_.members_.contains(id_);
    }

    Outcome connect() override {
        std::unique_lock lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        run_.pending_.insert(id_);
        run_.changed_.notify_all();
        run_.changed_.wait(lock, [&] {
            if (run_.members_.empty() && run_.pending_.contains(id_) && !run_.over_) {  // the first peer of a run
                run_.pending_.erase(id_);
                run_.members_.insert(id_);
                ++run_.membership_;
                start_generation();
            }
            return run_.members_.contains(id_) || run_.dead_.contains(id_) || run_.over_;
        });
        if (run_.members_.contains(id_)) return {};
        return run_.dead_.contains(id_) ? gone() : too_late();
    }

    Outcome are_peers_pending(bool &pending) override {
        const std::lock_guard lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        const std::size_t k = run_.questions_[id_]++;
        if (k >= run_.answers_.size()) run_.answers_.push_back(!run_.pending_.empty());
        pending = run_.answers_[k];
        return {};
    }

    Outcome update_topology() override {
        std::unique_lock lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        const auto updates = run_.updates_, lost = run_.lost_updates_;
        run_.updating_.insert(id_);
        if (std::ranges::includes(run_.updating_, run_.members_)) {
            ++run_.updates_;
            run_.members_.insert(run_.pending_.begin(), run_.pending_.end());
            ++run_.membership_;
            run_.failed_.clear();
            run_.pending_.clear();
            run_.updating_.clear();
            run_.tags_.clear();
            start_generation();
        }
        run_.changed_.wait(lock,
                           [&] { return run_.updates_ != updates || run_.lost_updates_ != lost || run_.dead_.contains(id_); });
        if (run_.dead_.contains(id_)) return gone();
        return run_.updates_ != updates ? Outcome{} : lost_peer();
    }

    Outcome optimize_topology() override { return {}; }

    Outcome synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy,
                        pcclSharedStateSyncInfo_t &info) override {
        std::unique_lock lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        const auto offer = std::make_shared<FakeRun::Offer>(FakeRun::Offer{&state, strategy, &info});
        run_.offers_[id_] = offer;
        if (run_.offers_.size() == run_.members_.size()) {
            run_.elect();
            run_.changed_.notify_all();
        }
        run_.changed_.wait(lock, [&] { return offer->done || run_.dead_.contains(id_); });
        if (run_.dead_.contains(id_)) return gone();
        return {offer->code, offer->code == pcclSuccess ? "" : "synchronization failed"};
    }

    /// Parts of equal size, except for the last.
    Outcome shard(std::size_t count, pcclShard_t &shard) override {
        const std::lock_guard lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        const std::size_t n = run_.members_.size();
        const auto rank = static_cast<std::size_t>(std::distance(run_.members_.begin(), run_.members_.find(id_)));
        shard.first = count * rank / n;
        shard.elements = count * (rank + 1) / n - shard.first;
        shard.membership = run_.membership_;
        shard.world_size = static_cast<std::uint32_t>(n);
        shard.rank = static_cast<std::uint32_t>(rank);
        return {};
    }

    Outcome launch(const Reduce &reduce) override {
        const std::lock_guard lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        const auto call = std::make_shared<FakeRun::Call>(FakeRun::Call{id_, reduce.send, reduce.recv, reduce.what, reduce.kind});
        if (reduce.shard) call->shard = *reduce.shard;
        run_.launched_[id_][reduce.what.tag].push_back(call);
        auto &tag = run_.tags_[id_][reduce.what.tag];
        if (tag.owed != 0) {
            --tag.owed;
            FakeRun::end(*call, pcclRankConnectionLost);
        } else if (run_.members_.size() < 2) {
            FakeRun::end(*call, pcclTooFewPeers);
        } else {
            const auto key = std::pair(reduce.what.tag, tag.next++);
            const bool of_others = reduce.shard && reduce.shard->membership != run_.membership_;
            if (of_others && run_.failed_.insert(key).second) {
                for (const auto &other : run_.ops_[key])
                    FakeRun::end(*other, pcclRankConnectionLost);
                run_.ops_.erase(key);
            }
            if (run_.failed_.contains(key)) {
                FakeRun::end(*call, pcclRankConnectionLost);
                run_.changed_.notify_all();
                return {};
            }
            auto &calls = run_.ops_[key];
            calls.push_back(call);
            if (calls.size() == run_.members_.size()) {
                run_.carry_out(calls);
                run_.ops_.erase(key);
            }
        }
        run_.changed_.notify_all();
        return {};
    }

    Outcome await(std::uint64_t tag, ReduceReport &report) override {
        std::unique_lock lock(run_.mutex_);
        const bool dies = run_.dies(id_);
        auto &queue = run_.launched_[id_][tag];
        const auto call = queue.front();
        queue.pop_front();
        if (dies) return gone();
        run_.changed_.wait(lock, [&] { return call->done || run_.dead_.contains(id_); });
        if (!call->done) return gone();
        report = {call->world, call->what.count * sizeof(float), call->what.count * sizeof(float)};
        return {call->code, call->code == pcclSuccess ? "" : "a peer was lost"};
    }

    void abort() override {}

private:
    static Outcome gone() { return {pcclMasterConnectionFailed, "this peer was killed"}; }
    static Outcome too_late() { return {pcclMasterConnectionFailed, "the others had finished before this peer was admitted"}; }
    static Outcome lost_peer() { return {pcclRankConnectionLost, "a peer was lost"}; }

    void start_generation() {
        run_.answers_.clear();
        run_.questions_.clear();
        run_.changed_.notify_all();
    }

    FakeRun &run_;
    const int id_;
    std::unique_ptr<Exchange> exchange_;
};

inline std::unique_ptr<Collectives> FakeRun::peer(int id) { return std::make_unique<FakePeer>(*this, id); }

}  // namespace pccl::train
