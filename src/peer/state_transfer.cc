#include "peer/state_transfer.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::FrameKind;

void SyncSession::apply() {
    for (auto &[index, pulled] : staged) {
        SharedTensor &tensor = tensors[index];
        for (const auto &[chunk, checksum] : pulled.chunks) {
            const std::size_t offset = chunk * kernel::kHashChunkBytes;
            std::memcpy(tensor.data + offset, pulled.memory.get() + offset, tensor.chunk_bytes(chunk));
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
    outstanding_.clear();
    arriving_.clear();
    pulling_ = pulled_ = false;
    session_.reset();
}

// ------------------------------------------------------------------------------------------------------------------ serving --

/// The one who asks names the content it wants: only that is given.
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
    return (from_staged ? staged->second.memory.get() : session_->tensors[tensor].data) + offset;
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
    const auto *list = held(header.index, hash);
    if (!list) return refuse(link, header);
    if (header.kind == FrameKind::state_ask_list) {
        wire::Bytes bytes(list->size() * sizeof(std::uint64_t));
        if (bytes.size() > wire::kMaxChunkBytes) return refuse(link, header);
        if (!bytes.empty()) std::memcpy(bytes.data(), list->data(), bytes.size());
        FrameHeader answer = header;
        answer.kind = FrameKind::state_list;
        return link.send_urgent(small_frame(answer, bytes));
    }
    if (header.aux >= list->size()) return refuse(link, header);
    auto &server = servers_[link.other()];
    if (!server) {
        server = std::make_unique<Server>(*this);
        link.add_producer(server.get());
    }
    if (server->asked.size() >= kMaxQueued) return refuse(link, header);
    server->asked.push_back({header, hash});
    link.kick();
}

bool StateTransfer::Server::produce(Link &, OutFrame &frame) {
    while (!asked.empty()) {
        const auto [header, hash] = asked.front();
        asked.pop_front();
        const auto *list = transfer.held(header.index, hash);
        if (!list) continue;  // no longer: a new plan has come, for the one who asked, too
        frame.header = header;
        frame.header.kind = FrameKind::state_chunk;
        frame.header.bytes = static_cast<std::uint32_t>(transfer.session_->tensors[header.index].chunk_bytes(header.aux));
        frame.header.checksum = (*list)[header.aux];  // the same function of the same bytes
        frame.payload = transfer.held_chunk(header.index, header.aux, hash);
        frame.owner = &transfer.servers_;
        transfer.session_->tx_bytes += frame.header.bytes;
        return true;
    }
    return false;
}

// ------------------------------------------------------------------------------------------------------------------ pulling --

void StateTransfer::pull(const wire::SyncPlan &plan) {
    if (!session_) return;
    links_.for_each([&](Link &link) { link.detach(this); });  // what an earlier plan was receiving
    sync_ = plan.sync;
    in_place_ = plan.in_place;
    pulling_ = !plan.pull.empty();
    pulled_ = false;
    tensors_.clear();
    todo_.clear();
    outstanding_.clear();
    arriving_.clear();
    if (!pulling_) {
        session_->staged.clear();  // an earlier plan had this peer give up content that has now been elected
        return;
    }
    for (const auto &tensor : plan.pull) {
        if (tensor.index >= session_->tensors.size()) {
            pulling_ = false;
            return host_.state_pulled(sync_, false, "the plan names a tensor that was not offered");
        }
        tensors_[tensor.index].plan = tensor;
    }
    std::erase_if(session_->staged, [&](const auto &entry) { return !tensors_.contains(entry.first); });
    for (auto &[index, tensor] : tensors_) ask_list(tensor);
    check_done();
}

OutFrame StateTransfer::request(FrameKind kind, const Tensor &tensor, std::uint32_t chunk) const {
    FrameHeader header;
    header.kind = kind;
    header.epoch = sync_;
    header.index = tensor.plan.index;
    header.aux = chunk;
    const auto *hash = reinterpret_cast<const std::byte *>(tensor.plan.hash.data());
    return small_frame(header, wire::Bytes(hash, hash + tensor.plan.hash.size()));
}

void StateTransfer::ask_list(Tensor &tensor) {
    // Spread over the holders, so that many tensors do not all burden the first.
    const std::size_t n = tensor.plan.sources.size();
    for (std::size_t i = 0; i < n; ++i) {
        const PeerId source = tensor.plan.sources[(tensor.plan.index + i) % n];
        Link *link = tensor.excluded.contains(source) ? nullptr : links_.up(source);
        if (!link) continue;
        tensor.list_from = source;
        link->send_urgent(request(FrameKind::state_ask_list, tensor, 0));
        return;
    }
    // Holders whose links broke come back, or the master plans anew; those that refused do not.
    const bool all_refused = std::ranges::all_of(tensor.plan.sources, [&](PeerId s) { return tensor.excluded.contains(s); });
    if (!all_refused) return;
    pulling_ = false;
    host_.state_pulled(sync_, false, "no holder gave tensor " + std::to_string(tensor.plan.index));
}

void StateTransfer::exclude(Tensor &tensor, PeerId source, const std::string &why) {
    PCCL_LOG_WARN("shared state: %s %s tensor %u", to_string(source).c_str(), why.c_str(), tensor.plan.index);
    tensor.excluded.insert(source);
    stop_arriving(source);
    requeue(source, tensor.plan.index);
    if (!tensor.listed) return ask_list(tensor);
    const bool any_left = std::ranges::any_of(tensor.plan.sources, [&](PeerId s) { return !tensor.excluded.contains(s); });
    if (any_left) return ask_chunks();
    pulling_ = false;
    host_.state_pulled(sync_, false, "no holder gave all of tensor " + std::to_string(tensor.plan.index));
}

/// Bytes on their way from a source that is not believed any more must not overwrite what another source gives.
void StateTransfer::stop_arriving(PeerId source) {
    if (Link *link = links_.up(source)) link->detach(this);
    auto &pieces = outstanding_[source];
    std::erase_if(arriving_, [&](const auto &entry) {
        if (entry.second != source) return false;
        if (pieces.erase(entry.first) > 0) todo_.push_front(entry.first);
        return true;
    });
}

/// What was asked of a holder for one tensor has to be asked of others.
void StateTransfer::requeue(PeerId source, std::uint32_t tensor) {
    auto &pieces = outstanding_[source];
    for (auto it = pieces.begin(); it != pieces.end();) {
        if (it->tensor != tensor) {
            ++it;
            continue;
        }
        todo_.push_front(*it);
        it = pieces.erase(it);
    }
}

bool StateTransfer::need(Tensor &tensor, std::uint32_t chunk) {
    if (session_->tensors[tensor.plan.index].checksums[chunk] == tensor.list[chunk]) return false;
    if (in_place_) return true;
    const auto staged = session_->staged.find(tensor.plan.index);
    if (staged == session_->staged.end()) return true;
    const auto held = staged->second.chunks.find(chunk);
    return held == staged->second.chunks.end() || held->second != tensor.list[chunk];
}

void StateTransfer::take_list(Tensor &tensor, PeerId from, const FrameHeader &header, const std::byte *payload) {
    SharedTensor &mine = session_->tensors[tensor.plan.index];
    if (header.bytes != mine.checksums.size() * sizeof(std::uint64_t)) return exclude(tensor, from, "gave a list of the wrong length for");
    tensor.list.resize(mine.checksums.size());
    if (header.bytes > 0) std::memcpy(tensor.list.data(), payload, header.bytes);
    if (kernel::content_hash(tensor.list).bytes != tensor.plan.hash) return exclude(tensor, from, "gave a false list for");
    tensor.listed = true;
    if (const auto staged = session_->staged.find(tensor.plan.index); staged != session_->staged.end()) {
        // Of an earlier plan: keep what this one wants, too.
        std::erase_if(staged->second.chunks, [&](const auto &held) {
            return tensor.list[held.first] != held.second || mine.checksums[held.first] == held.second;
        });
    }
    for (std::uint32_t chunk = 0; chunk < tensor.list.size(); ++chunk) {
        if (need(tensor, chunk)) todo_.push_back({tensor.plan.index, chunk});
    }
    ask_chunks();
    check_done();
}

void StateTransfer::ask_chunks() {
    if (todo_.empty()) return;
    std::set<PeerId> sources;
    for (const auto &[index, tensor] : tensors_) sources.insert(tensor.plan.sources.begin(), tensor.plan.sources.end());
    for (const PeerId source : sources) {
        Link *link = links_.up(source);
        if (!link) continue;
        auto &asked = outstanding_[source];
        for (auto it = todo_.begin(); it != todo_.end() && asked.size() < kWindow;) {
            const Tensor &tensor = tensors_.at(it->tensor);
            const bool holds = std::ranges::find(tensor.plan.sources, source) != tensor.plan.sources.end();
            if (!holds || tensor.excluded.contains(source)) {
                ++it;
                continue;
            }
            asked.insert(*it);
            link->send_urgent(request(FrameKind::state_ask_chunk, tensor, it->chunk));
            it = todo_.erase(it);
        }
    }
}

std::byte *StateTransfer::destination(Piece piece) {
    SharedTensor &tensor = session_->tensors[piece.tensor];
    const std::size_t offset = piece.chunk * kernel::kHashChunkBytes;
    if (in_place_) {
        // What was there is lost from now on, also if the rest never comes: a later plan must not take it for what it was.
        tensor.checksums[piece.chunk] = ~tensors_.at(piece.tensor).list[piece.chunk];
        return tensor.data + offset;
    }
    auto &staged = session_->staged[piece.tensor];
    if (!staged.memory) staged.memory.reset(new std::byte[tensor.bytes]);
    return staged.memory.get() + offset;
}

void StateTransfer::take_chunk(PeerId from, const FrameHeader &header) {
    const Piece piece{header.index, header.aux};
    arriving_.erase(piece);
    if (outstanding_[from].erase(piece) == 0) return;
    Tensor &tensor = tensors_.at(piece.tensor);
    session_->rx_bytes += header.bytes;
    if (header.checksum != tensor.list[piece.chunk]) {
        todo_.push_front(piece);
        return exclude(tensor, from, "gave false bytes for");
    }
    if (in_place_) session_->tensors[piece.tensor].checksums[piece.chunk] = header.checksum;
    else session_->staged[piece.tensor].chunks[piece.chunk] = header.checksum;
    ask_chunks();
    check_done();
}

void StateTransfer::check_done() {
    if (!pulling_ || !todo_.empty()) return;
    for (const auto &[source, pieces] : outstanding_) {
        if (!pieces.empty()) return;
    }
    for (const auto &[index, tensor] : tensors_) {
        if (!tensor.listed) return;
    }
    pulling_ = false;
    pulled_ = true;
    host_.state_pulled(sync_, true, "");
}

// ------------------------------------------------------------------------------------------------------------------- frames --

Intake StateTransfer::intake(Link &link, const FrameHeader &header) {
    if (header.kind == FrameKind::state_chunk) {
        const Piece piece{header.index, header.aux};
        const auto asked = outstanding_.find(link.other());
        const bool wanted = pulling_ && header.epoch == sync_ && asked != outstanding_.end() && asked->second.contains(piece);
        if (!wanted || arriving_.contains(piece)) return {};
        if (header.bytes != session_->tensors[piece.tensor].chunk_bytes(piece.chunk)) return Intake::reject("a chunk of state of the wrong length");
        std::byte *const into = destination(piece);
        arriving_[piece] = link.other();
        return {Intake::Action::take, into, nullptr, this, ""};
    }
    const bool ask = header.kind == FrameKind::state_ask_list || header.kind == FrameKind::state_ask_chunk;
    if (ask && header.bytes != sizeof(kernel::ContentHash)) return Intake::reject("a request for state of the wrong length");
    if (header.kind == FrameKind::state_refuse && header.bytes != 0) return Intake::reject("a refusal of the wrong length");
    Intake take{Intake::Action::take, nullptr, Buffer(new std::byte[header.bytes]), nullptr, ""};
    take.into = take.keep.get();
    return take;
}

void StateTransfer::receive(Link &link, const FrameHeader &header, std::byte *payload, const Buffer &) {
    const PeerId from = link.other();
    if (header.kind == FrameKind::state_ask_list || header.kind == FrameKind::state_ask_chunk) return serve(link, header, payload);
    const auto tensor = tensors_.find(header.index);
    if (!pulling_ || header.epoch != sync_ || tensor == tensors_.end()) return;
    switch (header.kind) {
    case FrameKind::state_list:
        if (!tensor->second.listed && tensor->second.list_from == from) take_list(tensor->second, from, header, payload);
        return;
    case FrameKind::state_chunk: return take_chunk(from, header);
    case FrameKind::state_refuse:
        if (!tensor->second.excluded.contains(from)) exclude(tensor->second, from, "refused");
        return;
    default: return;
    }
}

void StateTransfer::link_down(PeerId other) {
    servers_.erase(other);
    std::erase_if(arriving_, [&](const auto &entry) { return entry.second == other; });
    if (!pulling_) return;
    for (auto &[index, tensor] : tensors_) requeue(other, index);
    for (auto &[index, tensor] : tensors_) {
        if (pulling_ && !tensor.listed && tensor.list_from == other) ask_list(tensor);
    }
    if (pulling_) ask_chunks();
}

}  // namespace pccl::peer
