// The operations of one peer: which frames belong to which, what came too early, and who disagrees. I/O thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "collective/algorithm.h"
#include "peer/link_table.h"
#include "peer/operation.h"
#include "protocol/peer.h"

namespace pccl::peer {

class EngineHost {
public:
    virtual ~EngineHost() = default;
    virtual void op_finished(const OpId &op) = 0;
    /// `own`: by a mistake of this peer's program alone.
    virtual void op_broken(const OpId &op, pcclResult_t code, const std::string &why, bool own) = 0;
};

class Engine final : public FrameConsumer {
public:
    Engine(EngineHost &host, LinkTable &links) : host_(host), links_(links) {}

    void start_epoch(const protocol::StartEpoch &epoch, PeerId self);
    void start(const OpId &id, ReduceRequest &request);
    /// After it nothing of the operation's buffers is touched.
    void end(const OpId &id, bool committed);
    /// Likewise; their requests know what is final, and may be started again in the next epoch.
    std::vector<wire::CarriedOp> carry(const std::vector<OpId> &ops);

    /// Operations with another tag than these that are numbered below `floor` have ended; so have those with these tags that were numbered
    /// below the floor before.
    void drop_tags(const protocol::DropTags &drop);

    /// Null: not in flight.
    Operation *find(const OpId &id) {
        const auto found = ops_.find(id);
        return found == ops_.end() ? nullptr : found->second.get();
    }

    void clear(const Error &why) override;

    /// An operation is on its way, and its partners are near: what it waits for takes less than a thread's sleep and waking up.
    bool expects_soon() const { return near_ && !ops_.empty(); }

    std::vector<wire::FrameKind> kinds() const override;
    Intake prepare_receive(Link &link, const wire::FrameHeader &header) override;
    bool receive(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;

    /// The other end got the frame with this header damaged. If its source is what it was, it goes out again; else the program changed its
    /// buffer, and the operation fails.
    void send_again(Link &link, const wire::FrameHeader &sent) override;
    /// The program has freed the receive buffer that this frame went to.
    void unwritable(const wire::FrameHeader &header) override;

private:
    /// What came for an operation that is not posted here yet.
    struct Early {
        struct Chunk {
            std::shared_ptr<Link> link;
            wire::FrameHeader header;
            Buffer payload;
            std::size_t saved;  ///< of its bytes, by compression
        };
        std::vector<Chunk> chunks;
        std::map<PeerId, op::OperationSpec> openings;
    };

    enum class Known { running, ended, early };
    Known known(const OpId &id) const;
    void take_early(Operation &op);
    static void let_go(const Early &early, LinkTable &links);
    Intake intake_early(Link &link, const wire::FrameHeader &header);
    bool receive_chunk(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep, std::size_t saved,
                       const PackedPtr &packed);
    void receive_opening(Link &link, const wire::FrameHeader &header, const std::byte *payload);
    void compare(Operation &op, PeerId other, const op::OperationSpec &theirs);
    std::string overlap(const ReduceRequest &request) const;
    bool divided_otherwise(const ReduceRequest &request) const;
    void announce(const Operation &op, const std::vector<PeerId> &to);
    std::unique_ptr<Operation> make_operation(const OpId &id, ReduceRequest &request, std::uint64_t fingerprint, std::vector<PeerId> &to);
    void neighbours(std::vector<PeerId> &to) const;
    std::unique_ptr<Operation> make_ring(const OpId &id, ReduceRequest &request, std::uint64_t fingerprint,
                                         const std::vector<op::FinalRanges> &held);
    const wire::RepairedOp *repaired(const OpId &id, const ReduceRequest &request) const;
    std::string unfit(const OpId &id, const ReduceRequest &request) const;
    void spoil(Operation &op, const char *buffer, const char *what);
    void detach(Operation &op);
    template <class F>
    void for_each_link(const std::vector<PeerId> &peers, F &&f);

    EngineHost &host_;
    LinkTable &links_;
    BufferPool pool_;
    ViewNumber epoch_;
    PeerId self_;
    std::vector<PeerId> ring_;
    std::size_t rank_ = 0;
    bool full_mesh_ = false;
    collective::Path path_;
    bool near_ = false;  ///< the partners of the last operation
    std::map<Tag, wire::RepairedOp> repaired_;  ///< what the first operations of this epoch go on from
    std::map<OpId, std::unique_ptr<Operation>> ops_;
    std::map<OpId, Early> early_;
    std::unordered_map<Tag, std::uint32_t> begun_;  ///< one past the last operation started with a tag in this epoch
    std::uint32_t floor_ = 0;  ///< likewise, of a tag that is not in `begun_`
};

}  // namespace pccl::peer
