// A run within one process, for tests of trainers: what the master and the network agree on, without either.
//
// It ends calls as the library does: an operation is done by all members or fails at all, including those that call it later; the k-th
// question of a generation has one answer; newcomers are admitted when all members update the topology. A peer can be killed at its k-th
// call, before that has any effect.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "train/collectives.h"

namespace pccl::train {

class FakeRun {
public:
    std::unique_ptr<Collectives> peer(int id);
    /// Peer `id` is lost at its call number `call`, counted from 1.
    void kill_at(int id, int call) { kill_at_[id] = call; }
    int calls(int id) {
        const std::lock_guard lock(mutex_);
        return calls_[id];
    }
    /// How often it has asked for newcomers since the last were admitted.
    std::size_t questions(int id) {
        const std::lock_guard lock(mutex_);
        return questions_[id];
    }
    /// A peer that ends without leaving is not waited for.
    void leave(int id) {
        const std::lock_guard lock(mutex_);
        lose(id);
    }
    /// Blocks until `id` waits to be admitted, or is gone.
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
        if (members_.erase(id) != 0) new_epoch();
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
        std::ranges::sort(calls, {}, [](const CallPtr &c) { return c->id; });
        const auto &what = calls.front()->what;
        switch (what.src_descriptor.datatype) {
        case pcclFloat: combine<float>(calls); break;
        case pcclDouble: combine<double>(calls); break;
        default: combine<std::uint64_t>(calls); break;
        }
        for (const auto &call : calls) {
            call->world = static_cast<std::uint32_t>(calls.size());
            end(*call, pcclSuccess);
        }
    }

    template <class T> static void combine(const std::vector<CallPtr> &calls) {
        const auto &what = calls.front()->what;
        std::vector<T> result(what.count);
        for (std::size_t i = 0; i < what.count; ++i) {
            T value = static_cast<const T *>(calls.front()->send)[i];
            for (std::size_t k = 1; k < calls.size(); ++k) {
                const T other = static_cast<const T *>(calls[k]->send)[i];
                if (what.op == pcclMin) value = std::min(value, other);
                else if (what.op == pcclMax) value = std::max(value, other);
                else value = static_cast<T>(value + other);
            }
            result[i] = what.op == pcclAvg ? static_cast<T>(value / static_cast<T>(calls.size())) : value;
        }
        for (const auto &call : calls)
            std::memcpy(call->recv, result.data(), what.count * sizeof(T));
    }

    static std::size_t bytes(const pcclTensorInfo_t &t) { return t.count * (t.datatype == pcclUint8 ? 1U : t.datatype == pcclUint64 ? 8U : 4U); }

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
                if (std::strcmp(from.name, to.name) != 0) offer->code = pcclInvalidUsage;
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
            if (std::memcmp(a.infos[i].data, b.infos[i].data, bytes(a.infos[i])) != 0) return false;
        return true;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
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
    FakePeer(FakeRun &run, int id) : run_(run), id_(id) {}

    bool connected() override {
        const std::lock_guard lock(run_.mutex_);
        return run_.members_.contains(id_);
    }

    Outcome connect() override {
        std::unique_lock lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        if (run_.members_.empty()) {
            run_.members_.insert(id_);
            start_generation();
            return {};
        }
        run_.pending_.insert(id_);
        run_.changed_.notify_all();
        run_.changed_.wait(lock, [&] {
            if (run_.members_.empty() && run_.pending_.contains(id_)) {  // all members were lost: the first of a new run
                run_.pending_.erase(id_);
                run_.members_.insert(id_);
                start_generation();
            }
            return run_.members_.contains(id_) || run_.dead_.contains(id_);
        });
        return run_.members_.contains(id_) ? Outcome{} : gone();
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
            run_.pending_.clear();
            run_.updating_.clear();
            run_.tags_.clear();
            start_generation();
        }
        run_.changed_.wait(lock, [&] { return run_.updates_ != updates || run_.lost_updates_ != lost || run_.dead_.contains(id_); });
        if (run_.dead_.contains(id_)) return gone();
        return run_.updates_ != updates ? Outcome{} : lost_peer();
    }

    Outcome optimize_topology() override { return {}; }

    Outcome synchronize(pcclSharedState_t &state, pcclSharedStateSyncStrategy_t strategy, pcclSharedStateSyncInfo_t &info) override {
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

    Outcome launch(const Reduce &reduce) override {
        const std::lock_guard lock(run_.mutex_);
        if (run_.dies(id_)) return gone();
        const auto call = std::make_shared<FakeRun::Call>(FakeRun::Call{id_, reduce.send, reduce.recv, reduce.what});
        run_.launched_[id_][reduce.what.tag].push_back(call);
        auto &tag = run_.tags_[id_][reduce.what.tag];
        if (tag.owed != 0) {
            --tag.owed;
            FakeRun::end(*call, pcclRankConnectionLost);
        } else if (run_.members_.size() < 2) {
            FakeRun::end(*call, pcclTooFewPeers);
        } else {
            const auto key = std::pair(reduce.what.tag, tag.next++);
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
    static Outcome lost_peer() { return {pcclRankConnectionLost, "a peer was lost"}; }

    void start_generation() {
        run_.answers_.clear();
        run_.questions_.clear();
        run_.changed_.notify_all();
    }

    FakeRun &run_;
    const int id_;
};

inline std::unique_ptr<Collectives> FakeRun::peer(int id) { return std::make_unique<FakePeer>(*this, id); }

}  // namespace pccl::train
