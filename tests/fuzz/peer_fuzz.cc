// protocol::Peer with callers, a data plane and a master whose inputs are arbitrary and often valid. Every call ends exactly
// once. Every operation that was started ends before its call does. View numbers only grow. Messages to the master can be
// decoded. No state is left when the membership is over.
#include <algorithm>
#include <map>
#include <set>

#include "check.h"
#include "input.h"
#include "protocol/peer.h"

namespace {

using namespace pccl;
using namespace pccl::protocol;
using fuzz::Input;

class Scene {
public:
    explicit Scene(Input &input) : input_(input), peer_(PeerOptions{}) {}

    void run() {
        while (!input_.empty())
            act();
        feed(MasterDown{"over"});
        FUZZ_CHECK(calls_.empty() && started_.empty());
        FUZZ_CHECK(peer_.current_view().ring.empty());
        FUZZ_CHECK(fuzz::heap_bytes() <= fresh_ + 4096);
    }

private:
    CallId new_call() {
        const CallId call{next_call_++};
        calls_.insert(call);
        return call;
    }

    void act() {
        switch (input_.below(16)) {
        case 0: return connect();
        case 1: return feed(UpdateTopology{new_call()});
        case 2: return feed(ArePending{new_call()});
        case 3: return feed(OptimizeTopology{new_call()});
        case 4:
        case 5: return feed(PostReduce{new_call(), Tag{input_.below(3)}});
        case 6: return feed(Synchronize{new_call(), {}});
        case 7: return data_plane();
        case 8: return rarely();
        case 9:
            now_ = now_ + std::chrono::milliseconds(input_.below(3) == 0 ? 20000 : 110);
            if (input_.one_in(8)) return feed(MasterBytesReceived{});
            return feed(PeerTick{static_cast<wire::Blocked>(input_.below(3))});
        default: return receive(arbitrary());
        }
    }
    void connect() {
        feed(Connect{new_call()});
        if (input_.one_in(8)) return;
        feed(MasterUp{});
        wire::Welcome welcome;
        welcome.you = PeerId{1};
        receive(welcome);
        receive(view());
        receive(wire::CallDone{wire::Call::connect, 0, pcclSuccess, 1, ""});
    }
    void rarely() {
        switch (input_.below(8)) {
        case 0: return feed(AbortCalls{});
        case 1: return feed(LeaveRun{});
        case 2: return feed(MasterDown{"test"});
        case 3: return feed(MasterUp{});
        case 4: return feed(LinkEvent{PeerId{input_.below(4)}, 1, input_.below(2) != 0, "", 0});
        case 6: return feed(OfferSpoiled{input_.mostly(sync_), "test"});
        case 5: return feed(ProbeFinished{input_.below(3), PeerId{2}, 1.0});
        default: return feed(SyncPulled{input_.mostly(sync_), input_.below(2) != 0, ""});
        }
    }
    void data_plane() {
        OpId op{ViewNumber{epoch_}, Tag{input_.below(3)}, 0};
        if (!started_.empty())
            op = std::next(started_.begin(), static_cast<std::ptrdiff_t>(input_.below(started_.size())))->first;
        if (input_.below(4) != 0) return feed(OpFinished{op});
        feed(OpBroken{op, pcclInvalidUsage, "test", input_.below(2) != 0});
    }

    OpId op() {
        if (!started_.empty() && input_.below(4) != 0)
            return std::next(started_.begin(), static_cast<std::ptrdiff_t>(input_.below(started_.size())))->first;
        return {ViewNumber{input_.mostly(epoch_)}, Tag{input_.below(3)},
                static_cast<std::uint32_t>(input_.mostly<std::uint8_t>(0))};
    }
    wire::View view() {
        wire::View m;
        m.number = ViewNumber{input_.mostly(number_ + 1)};
        m.epoch = ViewNumber{input_.below(4) != 0 ? m.number.value : epoch_};
        m.ring = {PeerId{1}};
        if (input_.below(8) != 0) m.ring.push_back(PeerId{2});
        m.groups = {{GroupId{0}, static_cast<std::uint32_t>(m.ring.size())}};
        m.generation = 1;
        m.begun.resize(input_.below(4));
        for (auto &count : m.begun)
            count = {Tag{input_.below(3)},
                     input_.one_in(4) ? input_.take<std::uint32_t>() : static_cast<std::uint32_t>(input_.below(4))};
        return m;
    }
    wire::ToPeer arbitrary() {
        switch (input_.below(14)) {
        case 0: return wire::Welcome{};
        case 1: return wire::Removed{static_cast<pcclResult_t>(input_.below(pcclStatusEnd_)), input_.text(5)};
        case 2: return wire::Heartbeat{};
        case 3: return wire::OpenLink{PeerId{input_.below(4)}, input_.take<std::uint8_t>(), input_.below(2) != 0, {}, 0, {}};
        case 4: return wire::CloseLink{PeerId{input_.below(4)}};
        case 5: return wire::Freeze{input_.take<std::uint8_t>(), input_.text(5)};
        case 6:
        case 7: return view();
        case 8: return wire::PendingAnswer{input_.mostly<std::uint64_t>(1), input_.below(4), input_.below(2) != 0};
        case 9: return wire::Commit{{op(), op()}};
        case 10:
            return wire::OpFailed{op(), static_cast<pcclResult_t>(input_.below(pcclStatusEnd_)), input_.below(2) != 0,
                                  input_.text(5), PeerId{input_.below(4)}};
        case 11:
            return wire::CallDone{static_cast<wire::Call>(input_.below(6)), input_.mostly(call_number_),
                                  static_cast<pcclResult_t>(input_.below(pcclStatusEnd_)), input_.mostly<std::uint64_t>(1), ""};
        case 12:
            if (input_.below(2)) return wire::Probe{input_.below(3), PeerId{2}, 250};
            return wire::SyncPlan{input_.take<std::uint8_t>(), input_.mostly(call_number_), input_.below(2) != 0, {}};
        default: return wire::SyncCommit{input_.mostly(call_number_), input_.mostly(sync_), input_.take<std::uint64_t>()};
        }
    }

    void receive(const wire::ToPeer &message) {
        const wire::Bytes bytes = wire::encode(message);
        wire::ToPeer read;
        FUZZ_CHECK(wire::decode(std::span(bytes).subspan(sizeof(std::uint32_t)), read));
        feed(FromMaster{std::move(read)});
    }
    void feed(const PeerInput &input) {
        PeerEffects effects;
        const ViewNumber before = peer_.view();
        peer_.step(now_, input, effects);
        FUZZ_CHECK(peer_.view() >= before || peer_.view().value == 0);
        number_ = peer_.view().value;
        if (const auto due = peer_.next_timeout()) FUZZ_CHECK(*due > Time{});
        for (const auto &effect : effects)
            std::visit([this](const auto &e) { observe(e); }, effect);
    }

    template <class E> void observe(const E &) {}
    void observe(const SendToMaster &e) {
        const wire::Bytes bytes = wire::encode(e.message);
        wire::ToMaster read;
        FUZZ_CHECK(wire::decode(std::span(bytes).subspan(sizeof(std::uint32_t)), read));
        if (const auto *m = std::get_if<wire::VoteUpdate>(&read)) call_number_ = m->call;
        if (const auto *m = std::get_if<wire::VoteOptimize>(&read)) call_number_ = m->call;
        if (const auto *m = std::get_if<wire::OfferState>(&read)) call_number_ = m->call;
    }
    void observe(const StartEpoch &e) {
        FUZZ_CHECK(e.rank < e.ring.size() && started_.empty());
        epoch_ = e.epoch.value;
    }
    void observe(const StartPull &e) { sync_ = e.plan.sync; }
    void observe(const StartOp &e) { FUZZ_CHECK(calls_.contains(e.call) && started_.emplace(e.op, e.call).second); }
    void observe(const EndOp &e) {
        const auto found = started_.find(e.op);
        FUZZ_CHECK(found != started_.end() && found->second == e.call && calls_.contains(e.call));
        started_.erase(found);
    }
    void observe(const Complete &e) {
        FUZZ_CHECK(calls_.erase(e.call) == 1);
        FUZZ_CHECK(std::ranges::none_of(started_, [&](const auto &entry) { return entry.second == e.call; }));
    }

    Input &input_;
    Peer peer_;
    Time now_{std::chrono::seconds(1)};
    std::uint64_t next_call_ = 1, epoch_ = 0, number_ = 0, sync_ = 0;
    std::uint32_t call_number_ = 1;
    std::set<CallId> calls_;
    std::map<OpId, CallId> started_;
    std::size_t fresh_ = fuzz::heap_bytes();
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    Scene(input).run();
    return 0;
}
