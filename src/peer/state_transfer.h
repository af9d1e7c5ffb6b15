// Shared state between peers: serves the tensors that this peer has offered, and pulls the chunks that it lacks. I/O thread only.
//
// A receiver requests a tensor's list of chunk checksums from one holder, verifies the list against the elected content hash, and
// pulls the chunks that differ, from all holders at once. It verifies every chunk against the list. A holder whose chunk is wrong
// gets one more request for it, and then compares its memory with its list first: if its program has changed the memory, the
// synchronization fails. A holder that refuses, sends a wrong chunk twice or is lost is excluded, and its chunks are requested
// from other holders. A silent holder gets no requests until it sends again. A chunk is requested from one holder at a time and
// received once, so verified bytes are never overwritten. While the old content can still be elected, it is not modified before
// the commit.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/time.h"
#include "kernel/hash.h"
#include "peer/ask_window.h"
#include "peer/buffer_view.h"
#include "peer/link_table.h"
#include "wire/messages.h"

namespace pccl::peer {

struct SharedTensor {
    BufferView data;
    std::vector<std::uint64_t> checksums;  ///< per chunk of `data`; a value that no content has while the chunk is overwritten
    kernel::ContentHash hash;              ///< as offered
    std::uint8_t element_bytes = 1;
    std::string name = {};

    std::size_t chunk_bytes(std::size_t chunk) const {
        return std::min(kernel::kHashChunkBytes, data.bytes() - chunk * kernel::kHashChunkBytes);
    }
};

/// One call of pcclSynchronizeSharedState: its offer and its result.
struct SyncSession {
    std::vector<SharedTensor> tensors;
    std::uint64_t tx_bytes = 0, rx_bytes = 0;

    struct Staged {
        std::unique_ptr<std::byte[]> memory;            ///< as large as the tensor; only the chunks in `chunks` have been written
        std::map<std::uint32_t, std::uint64_t> chunks;  ///< received chunks and their checksums
    };
    std::map<std::uint32_t, Staged> staged;  ///< by tensor

    /// Copies the staged chunks to the tensors. Runs on the caller's thread, after StateTransfer::end().
    void apply();
};

class StateTransferHost {
public:
    virtual ~StateTransferHost() = default;
    virtual void state_pulled(std::uint64_t sync, bool ok, const std::string &why) = 0;
    /// The program has changed or freed (`what`) a tensor that it offered for this synchronization.
    virtual void offer_spoiled(std::uint64_t sync, const std::string &tensor, const char *what) = 0;
};

class StateTransfer final : public FrameConsumer {
public:
    StateTransfer(StateTransferHost &host, LinkTable &links) : host_(host), links_(links) {}

    void offer(std::shared_ptr<SyncSession> session);
    void pull(const wire::SyncPlan &plan);
    /// Ends the session. Its memory is not accessed afterwards. Chunks staged for another plan than `sync` are dropped.
    void end(std::uint64_t sync);

    std::vector<wire::FrameKind> kinds() const override;
    Intake prepare_receive(Link &link, const wire::FrameHeader &header) override;
    bool receive(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    void unwritable(const wire::FrameHeader &header) override;
    void link_down(PeerId other) override;
    void tick(Time now) override;
    void clear(const Error & /*why*/) override { end(0); }

private:
    static constexpr std::size_t kMaxQueuedRequests = 4096;  ///< from one peer

    /// The requests of one peer.
    struct Server final : Producer {
        explicit Server(StateTransfer &owner) : transfer(owner) {}
        bool produce(Link &link, OutFrame &frame) override;
        StateTransfer &transfer;
        struct Request {
            wire::FrameHeader header;
            kernel::ContentHash hash;
        };
        std::deque<Request> requests;
    };
    /// A tensor to pull.
    struct Tensor {
        wire::PullTensor plan;
        std::vector<std::uint64_t> list;  ///< the elected checksums, per chunk
        std::set<PeerId> excluded;
        PeerId list_from;
        bool listed = false;  ///< `list` has been received and verified
    };
    struct ChunkId {
        std::uint32_t tensor, chunk;
        friend auto operator<=>(const ChunkId &, const ChunkId &) = default;
    };
    struct ChunkRequest {
        AskWindow::Ticket ticket;
        std::uint64_t sync;     ///< the plan under which it was sent
        bool doubted = false;   ///< this holder sent a wrong chunk, and this is the second request for it
        bool arriving = false;  ///< the header of the chunk has arrived
    };
    struct Holder {
        std::map<ChunkId, ChunkRequest> requested;
        AskWindow window;
        std::uint64_t read = 0;  ///< bytes read from its link
        Time heard;              ///< the last time that `read` grew, or that the first request after a pause was sent
        bool silent = false;     ///< it has been silent for too long: it gets no requests while other holders can serve them
    };

    /// Returns the chunk checksums of a tensor's content with that hash, as offered or as pulled. Null: this peer does not hold
    /// it.
    const std::vector<std::uint64_t> *held(std::uint32_t tensor, const kernel::ContentHash &hash) const;
    const std::byte *held_chunk(std::uint32_t tensor, std::uint32_t chunk, const kernel::ContentHash &hash) const;
    void serve(Link &link, const wire::FrameHeader &header, const std::byte *payload);
    void refuse(Link &link, const wire::FrameHeader &header);
    bool is_unchanged(std::uint32_t tensor, std::uint32_t chunk, const kernel::ContentHash &hash, std::uint64_t checksum);
    void spoil(std::uint32_t tensor, const char *what);
    void request_list(Tensor &tensor);
    void take_list(Tensor &tensor, PeerId from, const wire::FrameHeader &header, const std::byte *payload);
    void take_chunk(PeerId from, const wire::FrameHeader &header, const std::byte *payload);
    void exclude(Tensor &tensor, PeerId holder, const std::string &why);
    void requeue(PeerId holder);
    bool fell_silent(PeerId id, Holder &holder);
    void keep_requests(const std::map<std::uint32_t, Tensor> &kept);
    bool can_serve(const Tensor &tensor, PeerId holder);
    bool may_request(const Tensor &tensor, PeerId holder);
    bool request_one(PeerId holder, Time now);
    ChunkRequest *find_request(PeerId holder, ChunkId chunk);
    void request_chunks();
    void give_up(const Tensor &tensor, const char *what);
    void check_done();
    std::byte *destination(ChunkId chunk);
    bool is_needed(Tensor &tensor, std::uint32_t chunk);
    OutFrame request(wire::FrameKind kind, const Tensor &tensor, std::uint32_t chunk, bool doubted = false) const;

    StateTransferHost &host_;
    LinkTable &links_;
    std::shared_ptr<SyncSession> session_;
    std::map<PeerId, std::unique_ptr<Server>> servers_;

    bool pulling_ = false;
    bool pulled_ = false;  ///< this peer holds all of `tensors_`, and serves peers that cannot reach the first holders
    bool in_place_ = false;
    bool spoiled_ =
        false;  ///< the program has changed an offered tensor: the synchronization is about to fail, and nothing is served
    std::uint64_t sync_ = 0;
    std::map<std::uint32_t, Tensor> tensors_;
    std::deque<ChunkId> todo_;  ///< chunks to request
    std::map<PeerId, Holder> holders_;
    Time ticked_{};
};

}  // namespace pccl::peer
