// A peer alone. Tests send it inputs as its master and its engine.
#pragma once

#include "base/assert.h"
#include "protocol/peer.h"

#include <optional>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace pccl::protocol {

using namespace std::chrono_literals;

class PeerTest : public testing::Test {
protected:
    PeerTest() : peer_(PeerOptions{}) { abort_on_broken_invariants(true); }

    void step(const PeerInput &input) {
        PeerEffects effects;
        peer_.step(now_, input, effects);
        for (auto &effect : effects)
            all_.push_back(std::move(effect));
    }
    void receive(wire::ToPeer message) { step(FromMaster{std::move(message)}); }
    template <class E> std::vector<E> effects() {
        std::vector<E> found;
        for (const auto &effect : all_) {
            if (const auto *e = std::get_if<E>(&effect)) found.push_back(*e);
        }
        return found;
    }
    template <class M> std::vector<M> sent() {
        std::vector<M> found;
        for (const auto &send : effects<SendToMaster>()) {
            if (const auto *m = std::get_if<M>(&send.message)) found.push_back(*m);
        }
        return found;
    }
    CallId reduce(std::uint64_t tag, op::LossPolicy fault = op::LossPolicy::retry) {
        const CallId call{next_call_++};
        step(PostReduce{call, Tag{tag}, fault});
        return call;
    }
    /// The code with which a call ended; nullopt: it has not ended.
    std::optional<pcclResult_t> outcome(CallId call) {
        std::optional<pcclResult_t> code;
        for (const auto &done : effects<Complete>()) {
            if (done.call != call) continue;
            EXPECT_FALSE(code) << "ended twice";
            code = done.code;
        }
        return code;
    }
    void view(std::uint64_t number, std::vector<wire::TagCount> begun = {}, std::vector<PeerId> ring = {PeerId{1}, PeerId{2}},
              std::vector<wire::RepairedOp> repaired = {}) {
        wire::View v;
        v.number = v.epoch = ViewNumber{number};
        v.ring = std::move(ring);
        v.groups = {{GroupId{0}, static_cast<std::uint32_t>(v.ring.size())}};
        v.generation = 1;
        v.begun = std::move(begun);
        v.repaired = std::move(repaired);
        v.why = "because";
        receive(v);
    }
    /// Peer 1 of two.
    void join(bool resumable = false) {
        step(Connect{CallId{next_call_++}});
        step(MasterUp{});
        wire::Welcome welcome;
        welcome.you = PeerId{1};
        welcome.resumable = resumable;
        receive(welcome);
        view(1);
        receive(wire::CallDone{wire::Call::connect, 0, pcclSuccess, 1, ""});
    }
    static OpId op(std::uint64_t epoch, std::uint64_t tag, std::uint32_t seq) { return {ViewNumber{epoch}, Tag{tag}, seq}; }

    Peer peer_;
    Time now_{1s};
    PeerEffects all_;
    std::uint64_t next_call_ = 1;
};

}  // namespace pccl::protocol
