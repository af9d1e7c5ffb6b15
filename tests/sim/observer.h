// The events that the simulator reports to checkers and transcripts. Observers change nothing.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "protocol/master.h"
#include "protocol/peer.h"

namespace pccl::sim {

using protocol::CallId;
struct Node;

/// A call of a modelled application.
enum class CallKind { connect, update, ask, optimize, reduce, sync, graph };
const char *name_of(CallKind kind);

struct CallInfo {
    CallId id;
    CallKind kind = CallKind::connect;
    Tag tag;
    Time since;
};

class Observer {
public:
    virtual ~Observer() = default;
    virtual void on_call(const Node &, const CallInfo &) {}
    virtual void on_complete(const Node &, const CallInfo &, const protocol::Complete &) {}
    /// A second completion, or one of a call that was never made.
    virtual void on_stray_complete(const Node &, const protocol::Complete &) {}
    /// The application aborts its calls. Reported before the protocol's step.
    virtual void on_abort(const Node &) {}
    /// Reported before the data plane carries it out. DropAllLinks is the first effect of a step that ends a membership.
    virtual void on_effect(const Node &, const protocol::PeerEffect &) {}
    virtual void on_peer_receives(const Node &, const wire::ToPeer &) {}      ///< a message arrives; called before the step
    virtual void on_master_receives(const Node &, const wire::ToMaster &) {}  ///< a message arrives; called before the step
    virtual void on_master_sends(const Node &, PeerId, const wire::ToPeer &) {
    }  ///< a message leaves; 0: the connection has no id yet
    virtual void on_master_closes(const Node &, PeerId, const std::string &) {}  ///< a connection ends, from either side
    virtual void on_master_note(LogLevel, const std::string &) {}
    virtual void on_result(const Node &, const OpId &, std::uint64_t) {}  ///< the node holds a whole result
    /// An element of a call's result is final at a node. It contains the values of these members.
    virtual void on_final(const Node &, const OpId &, CallId, std::size_t, const std::set<PeerId> &) {}
    /// The node's side of the link to that peer has come up or gone down. Reported before the step of its state machine.
    virtual void on_link(const Node &, PeerId, bool) {}
    virtual void on_path_lost(const Node &, const Node &) {}     ///< from the first to the second
    virtual void on_path_settled(const Node &, const Node &) {}  ///< both directions have been good for a long time
    virtual void on_world_event(const std::string &) {}          ///< crashes and other faults
};

}  // namespace pccl::sim
