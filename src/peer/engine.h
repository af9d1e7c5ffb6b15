// The operations of one peer: assigns frames to operations, stores frames that arrive before their operation is posted, and
// compares the specifications of the members. I/O thread only.
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
    /// `own`: the cause is a mistake of this peer's program, and no other member is involved.
    virtual void op_broken(const OpId &op, pcclResult_t code, const std::string &why, bool own) = 0;
};

class Engine final : public FrameConsumer {
public:
    Engine(EngineHost &host, LinkTable &links) : host_(host), links_(links) {}

    void start_epoch(const protocol::StartEpoch &epoch, PeerId self);
    void start(const OpId &id, ReduceRequest &request);
    /// Ends an operation. Its buffers are not accessed afterwards.
    void end(const OpId &id, bool committed);
    /// Ends operations that will continue in the next epoch. Their buffers are not accessed until then. Returns what is final in
    /// each.
    std::vector<wire::CarriedOp> carry(const std::vector<OpId> &ops);

    /// All operations below `drop.floor` have ended, except those with a tag in `drop.keep`. With these tags, the operations
    /// below the previous floor have ended.
    void drop_tags(const protocol::DropTags &drop);

    /// Returns null if the operation is not in flight.
    Operation *find(const OpId &id) {
        const auto found = ops_.find(id);
        return found == ops_.end() ? nullptr : found->second.get();
    }

    /// Forgets all operations. No buffer is accessed afterwards. The links no longer exist.
    void clear(const Error &why) override;

    /// True if an operation is in flight and its partners are near, so that its next frame arrives before a thread could sleep
    /// and wake up.
    bool should_spin() const { return near_ && !ops_.empty(); }

    std::vector<wire::FrameKind> kinds() const override;
    Intake prepare_receive(Link &link, const wire::FrameHeader &header) override;
    bool receive(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;

    /// The other side received the frame with this header damaged. If the memory that it was sent from is unchanged, it is sent
    /// again. Otherwise the program changed its buffer, and the operation fails.
    void send_again(Link &link, const wire::FrameHeader &sent) override;
    /// The program has freed the receive buffer that this frame writes to.
    void unwritable(const wire::FrameHeader &header) override;

private:
    /// Frames of an operation that is not posted here yet.
    struct Early {
        struct Chunk {
            std::shared_ptr<Link> link;
            wire::FrameHeader header;
            Buffer payload;
            std::size_t saved;  ///< bytes that compression saved
        };
        std::vector<Chunk> chunks;
        std::map<PeerId, op::OperationSpec> openings;
    };

    enum class Known { running, ended, early };
    Known known(const OpId &id) const;
    void replay_early_frames(Operation &op);
    static void release_early(const Early &early, LinkTable &links);
    Intake intake_early(Link &link, const wire::FrameHeader &header);
    bool receive_chunk(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep, std::size_t saved,
                       const PackedPtr &packed);
    void receive_opening(Link &link, const wire::FrameHeader &header, const std::byte *payload);
    void compare(Operation &op, PeerId other, const op::OperationSpec &theirs);
    std::string overlap(const ReduceRequest &request) const;
    bool has_stale_shard(const ReduceRequest &request) const;
    void announce(const Operation &op, const std::vector<PeerId> &to);
    std::unique_ptr<Operation> make_operation(const OpId &id, ReduceRequest &request, std::uint64_t spec_hash,
                                              std::vector<PeerId> &to);
    void neighbours(std::vector<PeerId> &to) const;
    std::unique_ptr<Operation> make_repair(const OpId &id, ReduceRequest &request, std::uint64_t spec_hash,
                                           const std::vector<op::FinalRanges> &held);
    const wire::RepairedOp *repaired(const OpId &id, const ReduceRequest &request) const;
    std::string repair_mismatch(const OpId &id, const ReduceRequest &request) const;
    void spoil(Operation &op, const char *buffer, const char *what);
    void detach(Operation &op);
    template <class F> void for_each_link(const std::vector<PeerId> &peers, F &&f);

    EngineHost &host_;
    LinkTable &links_;
    BufferPool pool_;
    ViewNumber epoch_;
    PeerId self_;
    std::vector<PeerId> ring_;
    std::size_t rank_ = 0;
    bool full_mesh_ = false;
    collective::Path path_;
    bool near_ = false;                         ///< the partners of the operation started last are near
    std::map<Tag, wire::RepairedOp> repaired_;  ///< operations that the first operations of this epoch continue
    std::map<OpId, std::unique_ptr<Operation>> ops_;
    std::map<OpId, Early> early_;
    std::unordered_map<Tag, std::uint32_t> begun_;  ///< one past the last operation started with a tag in this epoch
    std::uint32_t floor_ = 0;                       ///< the same number for tags that are not in `begun_`
};

}  // namespace pccl::peer
