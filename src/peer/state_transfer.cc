// See state_transfer.h.
#include "peer/state_transfer.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/no_memory.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::FrameKind;

namespace {

/// A holder that sends nothing for this time gets no further requests while other holders can serve them.
constexpr Duration kSilenceTimeout = std::chrono::seconds(2);
/// A longer time between two ticks means that this process was stopped, and the silence of the holders means nothing.
constexpr Duration kSchedulingGap = std::chrono::seconds(1);

}  // namespace

void SyncSession::apply() {
    for (auto &[index, pulled] : staged) {
        SharedTensor &tensor = tensors[index];
        for (const auto &[chunk, checksum] : pulled.chunks) {
            const std::size_t offset = chunk * kernel::kHashChunkBytes;
            tensor.data.copy_from(offset, pulled.memory.get() + offset, tensor.chunk_bytes(chunk));
        }
    }
    staged.clear();
}

void StateTransfer::offer(std::shared_ptr<SyncSession> session) {
    end(0);
    session_ = std::move(session);
    sync_ = 0;
}

void StateTransfer::end(std::uint64_t sync) {
    if (session_ && sync != sync_) session_->staged.clear();
    for (auto &[peer, server] : servers_) {
        if (Link *link = links_.up(peer)) link->remove_producer(server.get());
    }
    links_.for_each([&](Link &link) {
        link.detach(this);
        link.detach(&servers_);
    });
    servers_.clear();
    tensors_.clear();
    todo_.clear();
    holders_.clear();
    pulling_ = pulled_ = spoiled_ = false;
    session_.reset();
}

// ------------------------------------------------------------------------------------------------------------------ serving --

/// A request names the content hash that the receiver wants. No other content is served.
const std::vector<std::uint64_t> *StateTransfer::held(std::uint32_t tensor, const kernel::ContentHash &hash) const {
    if (!session_ || tensor >= session_->tensors.size()) return nullptr;
    if (pulled_) {
        const auto pulled = tensors_.find(tensor);
        if (pulled != tensors_.end()) return pulled->second.plan.hash == hash.bytes ? &pulled->second.list : nullptr;
    }
    const auto &offered = session_->tensors[tensor];
    return offered.hash == hash && !(pulling_ && in_place_) ? &offered.checksums : nullptr;
}

const std::byte *StateTransfer::held_chunk(std::uint32_t tensor, std::uint32_t chunk, const kernel::ContentHash &hash) const {
    const std::size_t offset = chunk * kernel::kHashChunkBytes;
    const auto staged = session_->staged.find(tensor);
    const bool from_staged = pulled_ && tensors_.contains(tensor) && tensors_.at(tensor).plan.hash == hash.bytes &&
                             staged != session_->staged.end() && staged->second.chunks.contains(chunk);
    return from_staged ? staged->second.memory.get() + offset : session_->tensors[tensor].data.read(offset);
}

void StateTransfer::refuse(Link &link, const FrameHeader &header) {
    FrameHeader answer = header;
    answer.kind = FrameKind::state_refuse;
    answer.checksum = 0;
    link.send_urgent(small_frame(answer, {}));
}

void StateTransfer::serve(Link &link, const FrameHeader &header, const std::byte *payload) {
    kernel::ContentHash hash;
    std::memcpy(hash.bytes.data(), payload, hash.bytes.size());
    if (spoiled_) return;
    const auto *list = held(header.tensor(), hash);
    if (!list) return refuse(link, header);
    if (header.kind == FrameKind::state_ask_list) {
        wire::Bytes bytes(list->size() * sizeof(std::uint64_t));
        if (bytes.size() > wire::kMaxChunkBytes) return refuse(link, header);
        if (!bytes.empty()) std::memcpy(bytes.data(), list->data(), bytes.size());
        FrameHeader answer = header;
        answer.kind = FrameKind::state_list;
        return link.send_urgent(small_frame(answer, bytes));
    }
    if (header.chunk() >= list->size()) return refuse(link, header);
    if (header.offset != 0 && !is_unchanged(header.tensor(), header.chunk(), hash, (*list)[header.chunk()])) return;
    auto &server = servers_[link.other()];
    if (!server) {
        server = std::make_unique<Server>(*this);
        link.add_producer(server.get());
    }
    if (server->requests.size() >= kMaxQueuedRequests) return refuse(link, header);
    server->requests.push_back({header, hash});
    link.kick();
}

/// The receiver got bytes that do not match the list. Returns true if this peer's memory is unchanged: then the path damaged
/// them, and they are sent again. Otherwise the program has changed its tensor, and the synchronization fails.
bool StateTransfer::is_unchanged(std::uint32_t tensor, std::uint32_t chunk, const kernel::ContentHash &hash,
                                 std::uint64_t checksum) {
    const std::size_t bytes = session_->tensors[tensor].chunk_bytes(chunk);
    const std::unique_ptr<std::byte[]> copy(new std::byte[bytes]);
    const ConstBufferView memory(held_chunk(tensor, chunk, hash), bytes);
    const bool readable = memory.try_copy_to(copy.get(), 0, bytes);
    if (readable && kernel::checksum(copy.get(), bytes) == checksum) return true;
    spoil(tensor, readable ? "modified" : "freed");
    return false;
}

void StateTransfer::spoil(std::uint32_t tensor, const char *what) {
    spoiled_ = true;
    for (auto &[peer, server] : servers_)
        server->requests.clear();
    host_.offer_spoiled(sync_, session_->tensors[tensor].name, what);
}

bool StateTransfer::Server::produce(Link &, OutFrame &frame) {
    while (!requests.empty()) {
        const auto [header, hash] = requests.front();
        requests.pop_front();
        const auto *list = transfer.held(header.tensor(), hash);
        frame.header = header;
        if (!list) {  // this peer does not hold the content any more
            frame.header.kind = FrameKind::state_refuse;
            frame.header.bytes = 0;
            frame.header.checksum = 0;
            return true;
        }
        frame.header.kind = FrameKind::state_chunk;
        frame.header.bytes = static_cast<std::uint32_t>(transfer.session_->tensors[header.tensor()].chunk_bytes(header.chunk()));
        frame.header.checksum = (*list)[header.chunk()];  // the list has the checksums of the payloads
        frame.payload = transfer.held_chunk(header.tensor(), header.chunk(), hash);
        frame.owner = &transfer.servers_;
        frame.planes = transfer.session_->tensors[header.tensor()].element_bytes;
        transfer.session_->tx_bytes += frame.header.bytes;
        return true;
    }
    return false;
}

// ------------------------------------------------------------------------------------------------------------------ pulling --

void StateTransfer::pull(const wire::SyncPlan &plan) {
    if (!session_) return;
    // A tensor whose elected content is the same in the new plan keeps its list and its requests.
    std::map<std::uint32_t, Tensor> kept;
    if (in_place_ == plan.in_place) kept.swap(tensors_);
    std::erase_if(kept, [&](const auto &entry) {
        const auto same = [&](const wire::PullTensor &tensor) {
            return tensor.index == entry.first && tensor.hash == entry.second.plan.hash;
        };
        return !entry.second.listed || std::ranges::none_of(plan.pull, same);
    });
    sync_ = plan.sync;
    spoiled_ = false;
    in_place_ = plan.in_place;
    pulling_ = !plan.pull.empty();
    pulled_ = false;
    tensors_.clear();
    for (const auto &tensor : plan.pull) {
        if (tensor.index >= session_->tensors.size()) {
            pulling_ = false;
            return host_.state_pulled(sync_, false, "the plan names a tensor that was not offered");
        }
        const auto known = kept.find(tensor.index);
        if (known != kept.end()) tensors_[tensor.index] = known->second;
        tensors_[tensor.index].plan = tensor;
        tensors_[tensor.index].excluded.clear();
    }
    keep_requests(kept);
    // A tensor that an earlier plan replaced and this plan does not pull has its offered content elected again.
    std::erase_if(session_->staged, [&](const auto &entry) { return !tensors_.contains(entry.first); });
    for (auto &[index, tensor] : tensors_) {
        if (!tensor.listed) request_list(tensor);
    }
    if (pulling_) request_chunks();
    check_done();
}

/// Keeps the requests of an earlier plan whose chunks are still wanted and whose holder still serves them. All requests of a
/// holder with any other request are sent again, because what it still sends is dropped.
void StateTransfer::keep_requests(const std::map<std::uint32_t, Tensor> &kept) {
    const auto unwanted = [&](PeerId holder, ChunkId chunk) {
        return !kept.contains(chunk.tensor) || !can_serve(tensors_.at(chunk.tensor), holder);
    };
    std::erase_if(todo_, [&](const ChunkId &chunk) { return !kept.contains(chunk.tensor); });
    for (auto &[id, holder] : holders_) {
        if (std::ranges::none_of(holder.requested, [&, from = id](const auto &sent) { return unwanted(from, sent.first); }))
            continue;
        std::erase_if(holder.requested, [&](const auto &sent) {
            if (kept.contains(sent.first.tensor)) todo_.push_front(sent.first);
            return true;
        });
        if (Link *link = links_.up(id)) link->detach(this);
    }
}

OutFrame StateTransfer::request(FrameKind kind, const Tensor &tensor, std::uint32_t chunk, bool doubted) const {
    FrameHeader header;
    header.kind = kind;
    header.epoch = sync_;
    header.index = tensor.plan.index;
    header.aux = chunk;
    header.offset = doubted ? 1 : 0;
    const auto *hash = reinterpret_cast<const std::byte *>(tensor.plan.hash.data());
    return small_frame(header, wire::Bytes(hash, hash + tensor.plan.hash.size()));
}

void StateTransfer::request_list(Tensor &tensor) {
    // Each tensor begins with another holder, so that a state of many tensors loads all holders.
    const std::size_t n = tensor.plan.sources.size();
    for (std::size_t i = 0; i < n; ++i) {
        const PeerId holder = tensor.plan.sources[(tensor.plan.index + i) % n];
        if (!may_request(tensor, holder)) continue;
        tensor.list_from = holder;
        if (holders_[holder].requested.empty()) holders_[holder].heard = monotonic_now();
        links_.up(holder)->send_urgent(request(FrameKind::state_ask_list, tensor, 0));
        return;
    }
    // A holder whose link broke reconnects, or the master sends another plan. A holder that refused stays excluded.
    const bool all_refused = std::ranges::all_of(tensor.plan.sources, [&](PeerId s) { return tensor.excluded.contains(s); });
    if (all_refused) give_up(tensor, "sent the list of");
}

void StateTransfer::give_up(const Tensor &tensor, const char *what) {
    pulling_ = false;
    host_.state_pulled(sync_, false, std::string("no holder ") + what + " tensor " + std::to_string(tensor.plan.index));
}

void StateTransfer::exclude(Tensor &tensor, PeerId holder, const std::string &why) {
    PCCL_LOG_WARN("shared state: %s %s tensor %u", to_string(holder).c_str(), why.c_str(), tensor.plan.index);
    tensor.excluded.insert(holder);
    requeue(holder);
    if (!tensor.listed) return request_list(tensor);
    const bool any_left = std::ranges::any_of(tensor.plan.sources, [&](PeerId s) { return !tensor.excluded.contains(s); });
    if (any_left) return request_chunks();
    give_up(tensor, "sent all chunks of");
}

/// Moves the chunks requested from a holder back to `todo_`. Chunks that it still sends are dropped.
void StateTransfer::requeue(PeerId id) {
    Holder &holder = holders_[id];
    for (const auto &[chunk, sent] : holder.requested)
        todo_.push_front(chunk);
    holder.requested.clear();
    if (Link *link = links_.up(id)) link->detach(this);
}

/// Finds silent holders, such as a stopped process, before the master does.
void StateTransfer::tick(Time now) {
    const bool was_stopped = now - ticked_ > kSchedulingGap;
    ticked_ = now;
    if (!pulling_) return;
    bool changed = false;
    for (auto &[id, holder] : holders_) {
        const Link *link = links_.up(id);
        if (!link) continue;
        const std::uint64_t read = link->read_bytes();
        if (read != holder.read || was_stopped) holder.heard = now;
        if (read != holder.read && std::exchange(holder.silent, false)) changed = true;
        holder.read = read;
        if (!holder.silent && now - holder.heard >= kSilenceTimeout) changed = fell_silent(id, holder) || changed;
    }
    if (changed && pulling_) request_chunks();
}

/// Returns false if nothing is requested from the holder, or if no other holder can serve its requests.
bool StateTransfer::fell_silent(PeerId id, Holder &holder) {
    const auto owes_list = [&](const Tensor &tensor) { return !tensor.listed && tensor.list_from == id; };
    if (holder.requested.empty() && std::ranges::none_of(tensors_, [&](const auto &entry) { return owes_list(entry.second); }))
        return false;
    holder.silent = true;
    const auto others_can_serve = [&](const auto &entry) {
        return can_serve(entry.second, id) && !may_request(entry.second, id);
    };
    holder.silent = std::ranges::any_of(tensors_, others_can_serve);
    if (!holder.silent) return false;
    PCCL_LOG_WARN("shared state: %s sends nothing; its chunks are requested from other holders", to_string(id).c_str());
    requeue(id);
    for (auto &[index, tensor] : tensors_) {
        if (pulling_ && owes_list(tensor)) request_list(tensor);
    }
    return true;
}

StateTransfer::ChunkRequest *StateTransfer::find_request(PeerId id, ChunkId chunk) {
    const auto holder = holders_.find(id);
    if (holder == holders_.end()) return nullptr;
    const auto sent = holder->second.requested.find(chunk);
    return sent == holder->second.requested.end() ? nullptr : &sent->second;
}

bool StateTransfer::is_needed(Tensor &tensor, std::uint32_t chunk) {
    if (session_->tensors[tensor.plan.index].checksums[chunk] == tensor.list[chunk]) return false;
    if (in_place_) return true;
    const auto staged = session_->staged.find(tensor.plan.index);
    if (staged == session_->staged.end()) return true;
    const auto held = staged->second.chunks.find(chunk);
    return held == staged->second.chunks.end() || held->second != tensor.list[chunk];
}

void StateTransfer::take_list(Tensor &tensor, PeerId from, const FrameHeader &header, const std::byte *payload) {
    SharedTensor &mine = session_->tensors[tensor.plan.index];
    if (header.bytes != mine.checksums.size() * sizeof(std::uint64_t))
        return exclude(tensor, from, "sent a list of the wrong length for");
    tensor.list.resize(mine.checksums.size());
    if (header.bytes > 0) std::memcpy(tensor.list.data(), payload, header.bytes);
    if (kernel::content_hash(tensor.list).bytes != tensor.plan.hash)
        return exclude(tensor, from, "sent a list with the wrong hash for");
    tensor.listed = true;
    if (const auto staged = session_->staged.find(tensor.plan.index); staged != session_->staged.end()) {
        // Chunks staged for an earlier plan are kept if this plan needs them with the same content.
        std::erase_if(staged->second.chunks, [&](const auto &held) {
            return tensor.list[held.first] != held.second || mine.checksums[held.first] == held.second;
        });
    }
    for (std::uint32_t chunk = 0; chunk < tensor.list.size(); ++chunk) {
        if (is_needed(tensor, chunk)) todo_.push_back({tensor.plan.index, chunk});
    }
    request_chunks();
    check_done();
}

/// Returns true if the peer holds the tensor and its link is up.
bool StateTransfer::can_serve(const Tensor &tensor, PeerId id) {
    return !tensor.excluded.contains(id) && std::ranges::find(tensor.plan.sources, id) != tensor.plan.sources.end() &&
           links_.up(id);
}

/// A silent holder gets requests only if all holders are silent.
bool StateTransfer::may_request(const Tensor &tensor, PeerId id) {
    if (!can_serve(tensor, id)) return false;
    const auto silent = [&](PeerId holder) { return holders_[holder].silent; };
    return !silent(id) || std::ranges::none_of(tensor.plan.sources, [&](PeerId s) { return !silent(s) && can_serve(tensor, s); });
}

/// Requests the first chunk in `todo_` that this holder can serve. Returns false if there is none or its window is full.
bool StateTransfer::request_one(PeerId id, Time now) {
    Holder &holder = holders_[id];
    if (holder.requested.size() >= holder.window.size()) return false;
    const auto chunk = std::ranges::find_if(todo_, [&](const ChunkId &c) { return may_request(tensors_.at(c.tensor), id); });
    if (chunk == todo_.end()) return false;
    if (holder.requested.empty()) holder.heard = now;
    holder.requested[*chunk] = {holder.window.ask(now), sync_, false, false};
    links_.up(id)->send_urgent(request(FrameKind::state_ask_chunk, tensors_.at(chunk->tensor), chunk->chunk));
    todo_.erase(chunk);
    return true;
}

/// Requests chunks from the holders in turn, so that a small number of chunks is spread over all of them.
void StateTransfer::request_chunks() {
    if (todo_.empty()) return;
    std::set<PeerId> able;
    for (const auto &[index, tensor] : tensors_)
        able.insert(tensor.plan.sources.begin(), tensor.plan.sources.end());
    const Time now = monotonic_now();
    while (!todo_.empty() && !able.empty())
        std::erase_if(able, [&](PeerId id) { return !links_.up(id) || !request_one(id, now); });
}

std::byte *StateTransfer::destination(ChunkId chunk) {
    SharedTensor &tensor = session_->tensors[chunk.tensor];
    const std::size_t offset = chunk.chunk * kernel::kHashChunkBytes;
    if (in_place_) {
        // The old content of the chunk is lost from here on, even if the rest of the new content never arrives. A later plan must
        // not find its checksum.
        tensor.checksums[chunk.chunk] = ~tensors_.at(chunk.tensor).list[chunk.chunk];
        return tensor.data.write(offset);
    }
    auto &staged = session_->staged[chunk.tensor];
    if (!staged.memory) {
        const std::size_t bytes = tensor.data.bytes();
        staged.memory.reset(new (std::nothrow) std::byte[bytes]);
        if (!staged.memory)
            throw NoMemory(bytes, "a copy of a tensor of the shared state, which is received before the old content is replaced",
                           "free memory");
    }
    return staged.memory.get() + offset;
}

void StateTransfer::take_chunk(PeerId from, const FrameHeader &header, const std::byte *payload) {
    const ChunkId chunk{header.tensor(), header.chunk()};
    Holder &holder = holders_[from];
    const auto sent = holder.requested.extract(chunk);
    if (!sent) return;
    const Time now = monotonic_now();
    holder.window.arrived(now, sent.mapped().ticket);
    holder.heard = now;
    Tensor &tensor = tensors_.at(chunk.tensor);
    session_->rx_bytes += header.bytes;
    if (kernel::checksum(payload, header.bytes) != tensor.list[chunk.chunk]) {
        if (sent.mapped().doubted || !links_.up(from)) {
            todo_.push_back(chunk);
            return exclude(tensor, from, "sent a chunk with the wrong checksum for");
        }
        holder.requested[chunk] = {holder.window.ask(now), sync_, true, false};
        return links_.up(from)->send_urgent(request(FrameKind::state_ask_chunk, tensor, chunk.chunk, true));
    }
    if (std::byte *const into = destination(chunk); into != payload) std::memcpy(into, payload, header.bytes);
    if (in_place_)
        session_->tensors[chunk.tensor].checksums[chunk.chunk] = tensor.list[chunk.chunk];
    else
        session_->staged[chunk.tensor].chunks[chunk.chunk] = tensor.list[chunk.chunk];
    request_chunks();
    check_done();
}

void StateTransfer::check_done() {
    if (!pulling_ || !todo_.empty()) return;
    for (const auto &[id, holder] : holders_) {
        if (!holder.requested.empty()) return;
    }
    for (const auto &[index, tensor] : tensors_) {
        if (!tensor.listed) return;
    }
    pulling_ = false;
    pulled_ = true;
    host_.state_pulled(sync_, true, "");
}

// ------------------------------------------------------------------------------------------------------------------- frames --

std::vector<FrameKind> StateTransfer::kinds() const {
    return {FrameKind::state_ask_list, FrameKind::state_list, FrameKind::state_ask_chunk, FrameKind::state_chunk,
            FrameKind::state_refuse};
}

Intake StateTransfer::prepare_receive(Link &link, const FrameHeader &header) {
    if (header.kind == FrameKind::state_chunk) {
        const ChunkId chunk{header.tensor(), header.chunk()};
        ChunkRequest *sent = pulling_ ? find_request(link.other(), chunk) : nullptr;
        if (!sent || sent->sync != header.sync() || sent->arriving) return {};
        if (header.bytes != session_->tensors[chunk.tensor].chunk_bytes(chunk.chunk))
            return Intake::reject("a chunk of state of the wrong length");
        sent->arriving = true;
        if (sent->doubted) {  // into other memory: this peer's program may have overwritten the first one after it arrived
            Intake take = Intake::take(Buffer(new std::byte[header.bytes]));
            take.owner = this;
            take.taker_checks = true;
            return take;
        }
        // take_chunk() verifies it against the list, and the link does not verify it against the frame: bytes that the holder's
        // program has changed are no reason to break the link.
        return {Intake::Action::take, destination(chunk), nullptr, this, "", true};
    }
    const bool ask = header.kind == FrameKind::state_ask_list || header.kind == FrameKind::state_ask_chunk;
    if (ask && header.bytes != sizeof(kernel::ContentHash)) return Intake::reject("a request for state of the wrong length");
    if (header.kind == FrameKind::state_refuse && header.bytes != 0) return Intake::reject("a refusal of the wrong length");
    Intake take{Intake::Action::take, nullptr, Buffer(new std::byte[header.bytes]), nullptr, ""};
    take.into = take.keep.get();
    return take;
}

bool StateTransfer::receive(Link &link, const FrameHeader &header, std::byte *payload, const Buffer &) {
    const PeerId from = link.other();
    if (header.kind == FrameKind::state_ask_list || header.kind == FrameKind::state_ask_chunk) {
        serve(link, header, payload);
        return true;
    }
    const auto tensor = tensors_.find(header.tensor());
    if (!pulling_ || tensor == tensors_.end()) return true;
    switch (header.kind) {
    case FrameKind::state_list:
        if (header.sync() == sync_ && !tensor->second.listed && tensor->second.list_from == from)
            take_list(tensor->second, from, header, payload);
        break;
    case FrameKind::state_chunk: take_chunk(from, header, payload); break;
    case FrameKind::state_refuse: {
        const ChunkRequest *sent = find_request(from, {header.tensor(), header.chunk()});
        const bool is_current = header.sync() == sync_ || (sent && sent->sync == header.sync());
        if (is_current && !tensor->second.excluded.contains(from)) exclude(tensor->second, from, "refused to send");
        break;
    }
    default: break;
    }
    return true;
}

void StateTransfer::unwritable(const FrameHeader &header) {
    if (session_ && header.tensor() < session_->tensors.size()) spoil(header.tensor(), "freed");
}

void StateTransfer::link_down(PeerId other) {
    servers_.erase(other);
    if (!pulling_) return;
    requeue(other);
    holders_.erase(other);
    for (auto &[index, tensor] : tensors_) {
        if (pulling_ && !tensor.listed && tensor.list_from == other) request_list(tensor);
    }
    if (pulling_) request_chunks();
}

}  // namespace pccl::peer
