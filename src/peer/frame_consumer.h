// A part of a peer that receives frames of certain kinds, and the table that leads from a kind to its consumer. I/O thread only.
//
// A lane reads a frame, its link finds the consumer in the table and calls it twice: with the header, to learn where the payload
// goes, and with the payload. No other part is on the path of a frame. docs/internals/add-a-frame-consumer.md describes how to
// add a consumer.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "peer/lane.h"
#include "wire/frame.h"

namespace pccl::peer {

class Link;

class FrameConsumer {
public:
    virtual ~FrameConsumer() = default;

    /// The kinds of frames that this consumer receives. No two consumers share a kind.
    virtual std::vector<wire::FrameKind> kinds() const = 0;

    /// A header arrived. Returns where its payload goes.
    virtual Intake prepare_receive(Link &link, const wire::FrameHeader &header) = 0;
    /// The payload arrived, as described at LaneHandler::on_frame. False: its checksum is wrong.
    virtual bool receive(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) = 0;

    /// A frame of a kind that may_be_asked_again() arrived with a wrong payload checksum. The link requests it again, and it
    /// counts as not received.
    virtual void damaged(Link & /*link*/, const wire::FrameHeader & /*header*/) {}
    /// The other end received the frame with this header with a wrong payload checksum, and requests it again.
    virtual void send_again(Link & /*link*/, const wire::FrameHeader & /*header*/) {}
    /// The program has freed the memory that the payload of this frame was received into.
    virtual void unwritable(const wire::FrameHeader & /*header*/) {}

    virtual void link_up(Link & /*link*/) {}
    /// The link to this peer is gone. Also called if there was no link to it.
    virtual void link_down(PeerId /*other*/) {}
    /// Called every 25 milliseconds.
    virtual void tick(Time /*now*/) {}
    /// The membership has ended because of `why`, and all links are gone. The consumer drops its state and touches no caller's
    /// memory after this. May be called twice.
    virtual void clear(const Error &why) = 0;
};

/// The consumers of one peer, by frame kind.
class FrameConsumers {
public:
    /// Consumers are called in the order in which they were added.
    void add(FrameConsumer &consumer);
    /// Null: no consumer receives frames of this kind.
    FrameConsumer *of(wire::FrameKind kind) const { return by_kind_[static_cast<std::size_t>(kind)]; }

    auto begin() const { return all_.begin(); }
    auto end() const { return all_.end(); }

private:
    std::vector<FrameConsumer *> all_;
    std::array<FrameConsumer *, wire::kFrameKinds> by_kind_{};
};

}  // namespace pccl::peer
