// Shared state between peers: serves the tensors this peer has offered, and pulls the chunks that it lacks. I/O thread only.
//
// A receiver asks one holder for a tensor's list of chunk checksums, checks the list against the elected content hash, and pulls just the
// chunks that differ, from all holders at once. Every chunk is checked against the list. A holder whose chunk is wrong is asked for it once
// more, and checks what it has first: if its program has changed it, the synchronization fails. A holder that refuses, sends a wrong chunk
// twice or goes is left out and its chunks are asked for elsewhere, and so it is with one that sends nothing for a while, until it sends again. A chunk is asked of
// one holder at a time and received once, so that nothing is written over bytes that were found right. Where the old content is still
// worth something it is not touched before the commit.
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
#include "peer/link_table.h"
#include "wire/messages.h"

namespace pccl::peer {

struct SharedTensor {
    std::byte *data = nullptr;
    std::size_t bytes = 0;
    std::vector<std::uint64_t> checksums;  ///< per chunk, of what `data` holds; of no content while it is overwritten
    kernel::ContentHash hash;              ///< as offered
    std::uint8_t element_bytes = 1;
    std::string name = {};

    std::size_t chunk_bytes(std::size_t chunk) const { return std::min(kernel::kHashChunkBytes, bytes - chunk * kernel::kHashChunkBytes); }
};

/// One call of synchronize: what it offers, and what it gets.
struct SyncSession {
    std::vector<SharedTensor> tensors;
    std::uint64_t tx_bytes = 0, rx_bytes = 0;

    struct Staged {
        std::unique_ptr<std::byte[]> memory;                 ///< as large as the tensor; only the chunks in `chunks` are touched
        std::map<std::uint32_t, std::uint64_t> chunks;       ///< held, with their checksums
    };
    std::map<std::uint32_t, Staged> staged;  ///< by tensor

    /// Copies what was staged to where it belongs. On the caller's thread, once the transfer has let go.
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
    /// Nothing of the session's memory is touched after it. What was staged for another plan than `sync` is dropped.
    void end(std::uint64_t sync);

    std::vector<wire::FrameKind> kinds() const override;
    Intake prepare_receive(Link &link, const wire::FrameHeader &header) override;
    bool receive(Link &link, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    void unwritable(const wire::FrameHeader &header) override;
    void link_down(PeerId other) override;
    void tick(Time now) override;
    void clear(const Error & /*why*/) override { end(0); }

private:
    static constexpr std::size_t kMaxQueued = 4096;   ///< asked of us by one peer

    /// What one peer has asked of us.
    struct Server final : Producer {
        explicit Server(StateTransfer &owner) : transfer(owner) {}
        bool produce(Link &link, OutFrame &frame) override;
        StateTransfer &transfer;
        struct Asked {
            wire::FrameHeader header;
            kernel::ContentHash hash;
        };
        std::deque<Asked> asked;
    };
    struct Tensor {
        wire::PullTensor plan;
        std::vector<std::uint64_t> list;
        std::set<PeerId> excluded;
        PeerId list_from;
        bool listed = false;
    };
    struct Piece {
        std::uint32_t tensor, chunk;
        friend auto operator<=>(const Piece &, const Piece &) = default;
    };
    struct Asked {
        AskWindow::Ticket ticket;
        std::uint64_t sync;     ///< the plan under which it was asked
        bool doubted = false;   ///< this holder sent a wrong chunk, and is asked for it once more
        bool arriving = false;  ///< its header has come
    };
    /// What has been asked of one holder.
    struct Source {
        std::map<Piece, Asked> asked;
        AskWindow window;
        std::uint64_t read = 0;  ///< bytes, of its link
        Time heard;              ///< when that last grew, or it was asked after a rest
        bool silent = false;     ///< for too long: nothing is asked of it while others have what is missing
    };

    /// The chunk checksums of a tensor's content with that hash: as offered, or as pulled. Null if it is not held.
    const std::vector<std::uint64_t> *held(std::uint32_t tensor, const kernel::ContentHash &hash) const;
    const std::byte *held_chunk(std::uint32_t tensor, std::uint32_t chunk, const kernel::ContentHash &hash) const;
    void serve(Link &link, const wire::FrameHeader &header, const std::byte *payload);
    void refuse(Link &link, const wire::FrameHeader &header);
    bool still_right(std::uint32_t tensor, std::uint32_t chunk, const kernel::ContentHash &hash, std::uint64_t checksum);
    void spoil(std::uint32_t tensor, const char *what);
    void ask_list(Tensor &tensor);
    void take_list(Tensor &tensor, PeerId from, const wire::FrameHeader &header, const std::byte *payload);
    void take_chunk(PeerId from, const wire::FrameHeader &header, const std::byte *payload);
    void exclude(Tensor &tensor, PeerId source, const std::string &why);
    void take_back(PeerId source);
    bool fell_silent(PeerId id, Source &source);
    void keep_asked(const std::map<std::uint32_t, Tensor> &kept);
    bool gives(const Tensor &tensor, PeerId source);
    bool may_ask(const Tensor &tensor, PeerId source);
    bool ask_one(PeerId source, Time now);
    Asked *asked_of(PeerId source, Piece piece);
    void ask_chunks();
    void give_up(const Tensor &tensor, const char *what);
    void check_done();
    std::byte *destination(Piece piece);
    bool need(Tensor &tensor, std::uint32_t chunk);
    OutFrame request(wire::FrameKind kind, const Tensor &tensor, std::uint32_t chunk, bool doubted = false) const;

    StateTransferHost &host_;
    LinkTable &links_;
    std::shared_ptr<SyncSession> session_;
    std::map<PeerId, std::unique_ptr<Server>> servers_;

    bool pulling_ = false;
    bool pulled_ = false;  ///< all of `tensors_` is held, and given to those who cannot reach its first holders
    bool in_place_ = false;
    bool spoiled_ = false;  ///< the program has changed what was offered: the synchronization is about to fail, and nothing is served
    std::uint64_t sync_ = 0;
    std::map<std::uint32_t, Tensor> tensors_;
    std::deque<Piece> todo_;
    std::map<PeerId, Source> sources_;
    Time ticked_{};
};

}  // namespace pccl::peer
