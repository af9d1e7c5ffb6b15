// Messages between the peers of a FakeRun: mailboxes in memory, and a graph over its members.
//
// A message to a member is delivered when it is posted, except that a post to a full mailbox fails. A peer can be killed at each
// call, before the call has any effect.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "unit/train_fake_run.h"

namespace pccl::train {

class FakeMail {
public:
    explicit FakeMail(FakeRun &run) : run_(run) {
        run.make_exchange = [this](int id) { return peer(id); };
    }
    std::unique_ptr<Exchange> peer(int id);

    using Message = std::vector<std::byte>;
    /// Messages that were delivered but not received, including those to lost peers, and messages that were neither delivered nor
    /// taken back.
    std::vector<Message> held() {
        const std::lock_guard lock(mutex_);
        std::vector<Message> out;
        for (const auto &[key, queue] : boxes_)
            out.insert(out.end(), queue.begin(), queue.end());
        for (const auto &[post, message] : undelivered_)
            out.push_back(message);
        return out;
    }
    /// Puts bytes into a peer's mailbox that no trainer has sent.
    void forge(int to, std::uint64_t tag, Message message) {
        const std::lock_guard lock(mutex_);
        boxes_[{to, tag}].push_back(std::move(message));
    }
    /// Every post whose number is a multiple of this value fails; 0: none fails.
    int fail_every = 0;
    /// The number of receive() calls that could wait and ended without a message.
    int waited_in_vain() {
        const std::lock_guard lock(mutex_);
        return waited_in_vain_;
    }

private:
    friend class FakeExchange;

    FakeRun &run_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::pair<int, std::uint64_t>, std::deque<Message>> boxes_;
    std::map<int, std::uint64_t> limits_;
    std::map<std::pair<int, std::uint64_t>, Message> undelivered_;
    int posts_ = 0, waited_in_vain_ = 0;
};

class FakeExchange final : public Exchange {
public:
    FakeExchange(FakeMail &mail, int id) : mail_(mail), id_(id) {}

    Outcome set_graph(const pcclGraphOptions_t &graph) override {
        graph_ = graph;
        return mail_.run_.calls_on(id_) ? Outcome{} : gone();
    }

    Outcome neighbours(std::vector<pcclPeerId_t> &out, std::uint64_t &epoch) override {
        if (!mail_.run_.calls_on(id_)) return gone();
        const auto set = mail_.run_.members();
        const std::vector<int> members(set.begin(), set.end());
        const auto me = static_cast<std::size_t>(std::ranges::find(members, id_) - members.begin());
        const std::size_t n = members.size();
        std::set<std::size_t> distances;
        if (n > 1 && graph_.kind == pcclGraphRing) distances = {1, n - 1};
        if (n > 1 && graph_.kind == pcclGraphExponential)
            for (std::size_t d = 1; d < n; d *= 2)
                distances.insert(d);
        if (n > 1 && graph_.kind == pcclGraphRandomRegular)  // as regular as possible
            for (std::size_t d = 1; d < n; ++d)
                distances.insert(d);
        out.clear();
        for (const std::size_t d : distances)
            out.push_back(rank(members[(me + d) % n]));
        epoch = 0;
        for (const int member : members)
            epoch = epoch * 31 + static_cast<std::uint64_t>(member) + 1;
        return {};
    }

    Outcome post(const pcclPeerId_t &to, std::uint64_t tag, const void *data, std::size_t bytes, std::uint32_t,
                 std::uint64_t &number) override {
        if (!mail_.run_.calls_on(id_)) return gone();
        const int target = to.data[0];
        if (!mail_.run_.members().contains(target)) return {pcclInvalidArgument, "no member"};
        const std::lock_guard lock(mail_.mutex_);
        number = ++number_;
        const auto limit = mail_.limits_.find(target);
        const bool fails = mail_.fail_every != 0 && ++mail_.posts_ % mail_.fail_every == 0;
        const auto *begin = static_cast<const std::byte *>(data);
        if (fails || (limit != mail_.limits_.end() && bytes > limit->second)) {
            outcomes_[number] = {pcclRankConnectionFailed, "not delivered"};
            mail_.undelivered_[{id_, number}] = {begin, begin + bytes};
            return {};
        }
        mail_.boxes_[{target, tag}].emplace_back(begin, begin + bytes);
        mail_.changed_.notify_all();
        outcomes_[number] = {};
        return {};
    }

    Outcome await_post(std::uint64_t number, std::uint32_t) override {
        static_cast<void>(mail_.run_.calls_on(id_));
        const std::lock_guard lock(mail_.mutex_);
        mail_.undelivered_.erase({id_, number});
        const auto found = outcomes_.extract(number);
        return found.empty() ? Outcome{pcclInvalidUsage, "no such message"} : found.mapped();
    }

    Outcome receive(std::uint64_t tag, void *buffer, std::size_t capacity, std::uint32_t timeout_ms,
                    pcclMessageInfo_t &info) override {
        if (!mail_.run_.calls_on(id_)) return gone();
        std::unique_lock lock(mail_.mutex_);
        auto &queue = mail_.boxes_[{id_, tag}];
        mail_.changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return !queue.empty(); });
        if (queue.empty()) {
            mail_.waited_in_vain_ += timeout_ms != 0;
            return {pcclTimeout, "no message has arrived"};
        }
        info.bytes = queue.front().size();
        if (info.bytes > capacity) return {pcclInvalidArgument, "too large"};
        if (info.bytes > 0) std::memcpy(buffer, queue.front().data(), info.bytes);
        queue.pop_front();
        return {};
    }

    Outcome limit_mailbox(std::uint64_t bytes, std::uint32_t) override {
        if (!mail_.run_.calls_on(id_)) return gone();
        const std::lock_guard lock(mail_.mutex_);
        mail_.limits_[id_] = bytes;
        return {};
    }

private:
    static Outcome gone() { return {pcclMasterConnectionFailed, "this peer was killed"}; }
    static pcclPeerId_t rank(int id) {
        pcclPeerId_t out{};
        out.data[0] = static_cast<std::uint8_t>(id);
        return out;
    }

    FakeMail &mail_;
    const int id_;
    pcclGraphOptions_t graph_{};
    std::uint64_t number_ = 0;
    std::map<std::uint64_t, Outcome> outcomes_;
};

inline std::unique_ptr<Exchange> FakeMail::peer(int id) { return std::make_unique<FakeExchange>(*this, id); }

}  // namespace pccl::train
