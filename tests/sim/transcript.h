// A run as lines of text: every message at the time when it arrives, every call and its return, every fault. Each file of
// scenarios/ begins with a legend of the notation.
#pragma once

#include <functional>
#include <string>

#include "observer.h"

namespace pccl::sim {

std::string describe(const wire::ToMaster &message);
std::string describe(const wire::ToPeer &message);

class Transcript : public Observer {
public:
    using Line = std::function<void(const std::string &)>;
    /// With `now`, each line begins with the time. Without it, lines carry no time, so that runs can be compared.
    explicit Transcript(Line line, std::function<Time()> now = {}) : line_(std::move(line)), now_(std::move(now)) {}
    void set_clock(std::function<Time()> now) { now_ = std::move(now); }

    void on_call(const Node &node, const CallInfo &call) override;
    void on_complete(const Node &node, const CallInfo &call, const protocol::Complete &done) override;
    void on_stray_complete(const Node &node, const protocol::Complete &done) override;
    void on_abort(const Node &node) override;
    void on_effect(const Node &node, const protocol::PeerEffect &effect) override;
    void on_peer_receives(const Node &node, const wire::ToPeer &message) override;
    void on_master_receives(const Node &node, const wire::ToMaster &message) override;
    void on_master_closes(const Node &node, PeerId peer, const std::string &why) override;
    void on_world_event(const std::string &what) override;

private:
    void line(const std::string &text);

    Line line_;
    std::function<Time()> now_;
};

}  // namespace pccl::sim
