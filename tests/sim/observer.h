// What the simulator tells those who watch: checkers and transcripts. They see; they change nothing.
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
    /// The application gives up its calls, just before the protocol hears of it.
    virtual void on_abort(const Node &) {}
    /// Before the data plane carries it out. DropAllLinks comes first in a step that ends a membership.
    virtual void on_effect(const Node &, const protocol::PeerEffect &) {}
    virtual void on_told_peer(const Node &, const wire::ToPeer &) {}             ///< arrives, before the step
    virtual void on_told_master(const Node &, const wire::ToMaster &) {}         ///< arrives, before the step
    virtual void on_master_sends(const Node &, PeerId, const wire::ToPeer &) {}  ///< leaves the master; 0: a stranger
    virtual void on_master_closes(const Node &, PeerId, const std::string &) {}  ///< a connection ends, from either side
    virtual void on_master_note(LogLevel, const std::string &) {}
    virtual void on_result(const Node &, const OpId &, std::uint64_t) {}  ///< the data plane holds a whole result
    /// An element of a call's result is final at a node, made so by these members.
    virtual void on_final(const Node &, const OpId &, CallId, std::size_t, const std::set<PeerId> &) {}
    /// Its side of the link to that peer has come up, or gone: before its state machine hears of it.
    virtual void on_link(const Node &, PeerId, bool) {}
    virtual void on_path_lost(const Node &, const Node &) {}     ///< from the first to the second
    virtual void on_path_settled(const Node &, const Node &) {}  ///< both directions have been well for long
    virtual void on_world_event(const std::string &) {}                   ///< crashes and the like
};

}  // namespace pccl::sim
