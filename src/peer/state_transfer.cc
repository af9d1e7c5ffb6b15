#include "peer/state_transfer.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/no_memory.h"
#include "peer/careful_copy.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::FrameKind;

namespace {

/// A holder that has sent nothing for so long is asked no more while there are others.
constexpr Duration kPatience = std::chrono::seconds(2);
/// Who did not look for so long was stopped itself.
constexpr Duration kBlind = std::chrono::seconds(1);

}  // namespace

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
    sources_.clear();
    pulling_ = pulled_ = spoiled_ = false;
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
    if (spoiled_) return;
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
    if (header.offset != 0 && !still_right(header.index, header.aux, hash, (*list)[header.aux])) return;
    auto &server = servers_[link.other()];
    if (!server) {
        server = std::make_unique<Server>(*this);
        link.add_producer(server.get());
    }
    if (server->asked.size() >= kMaxQueued) return refuse(link, header);
    server->asked.push_back({header, hash});
    link.kick();
}

/// The receiver got something else. Bytes that were damaged on their way are sent again; if the program has changed them, it is told.
bool StateTransfer::still_right(std::uint32_t tensor, std::uint32_t chunk, const kernel::ContentHash &hash, std::uint64_t checksum) {
    const std::size_t bytes = session_->tensors[tensor].chunk_bytes(chunk);
    const std::unique_ptr<std::byte[]> copy(new std::byte[bytes]);
    const bool readable = copy_carefully(copy.get(), held_chunk(tensor, chunk, hash), bytes);
    if (readable && kernel::checksum(copy.get(), bytes) == checksum) return true;
    spoil(tensor, readable ? "modified" : "freed");
    return false;
}

void StateTransfer::spoil(std::uint32_t tensor, const char *what) {
    spoiled_ = true;
    for (auto &[peer, server] : servers_) server->asked.clear();
    host_.offer_spoiled(sync_, session_->tensors[tensor].name, what);
}

bool StateTransfer::Server::produce(Link &, OutFrame &frame) {
    while (!asked.empty()) {
        const auto [header, hash] = asked.front();
        asked.pop_front();
        const auto *list = transfer.held(header.index, hash);
        frame.header = header;
        if (!list) {  // no longer
            frame.header.kind = FrameKind::state_refuse;
            frame.header.bytes = 0;
            frame.header.checksum = 0;
            return true;
        }
        frame.header.kind = FrameKind::state_chunk;
        frame.header.bytes = static_cast<std::uint32_t>(transfer.session_->tensors[header.index].chunk_bytes(header.aux));
        frame.header.checksum = (*list)[header.aux];  // the same function of the same bytes
        frame.payload = transfer.held_chunk(header.index, header.aux, hash);
        frame.owner = &transfer.servers_;
        frame.planes = transfer.session_->tensors[header.index].element_bytes;
        transfer.session_->tx_bytes += frame.header.bytes;
        return true;
    }
    return false;
}

// ------------------------------------------------------------------------------------------------------------------ pulling --

void StateTransfer::pull(const wire::SyncPlan &plan) {
    if (!session_) return;
    // Of a tensor whose elected content is the same as before everything is kept, also what is on its way.
    std::map<std::uint32_t, Tensor> kept;
    if (in_place_ == plan.in_place) kept.swap(tensors_);
    std::erase_if(kept, [&](const auto &entry) {
        const auto same = [&](const wire::PullTensor &tensor) { return tensor.index == entry.first && tensor.hash == entry.second.plan.hash; };
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
    keep_asked(kept);
    // Of a plan that had this peer give up content that has now been elected, nothing stays.
    std::erase_if(session_->staged, [&](const auto &entry) { return !tensors_.contains(entry.first); });
    for (auto &[index, tensor] : tensors_) {
        if (!tensor.listed) ask_list(tensor);
    }
    if (pulling_) ask_chunks();
    check_done();
}

/// What was asked under an earlier plan comes all the same, where it is wanted still and its holder is one still.
void StateTransfer::keep_asked(const std::map<std::uint32_t, Tensor> &kept) {
    const auto unwanted = [&](PeerId source, const Piece &piece) { return !kept.contains(piece.tensor) || !gives(tensors_.at(piece.tensor), source); };
    std::erase_if(todo_, [&](const Piece &piece) { return !kept.contains(piece.tensor); });
    for (auto &[id, source] : sources_) {
        if (std::ranges::none_of(source.asked, [&, from = id](const auto &asked) { return unwanted(from, asked.first); })) continue;
        std::erase_if(source.asked, [&](const auto &asked) {
            if (kept.contains(asked.first.tensor)) todo_.push_front(asked.first);
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

void StateTransfer::ask_list(Tensor &tensor) {
    // Spread over the holders, so that many tensors do not all burden the first.
    const std::size_t n = tensor.plan.sources.size();
    for (std::size_t i = 0; i < n; ++i) {
        const PeerId source = tensor.plan.sources[(tensor.plan.index + i) % n];
        if (!may_ask(tensor, source)) continue;
        tensor.list_from = source;
        if (sources_[source].asked.empty()) sources_[source].heard = monotonic_now();
        links_.up(source)->send_urgent(request(FrameKind::state_ask_list, tensor, 0));
        return;
    }
    // Holders whose links broke come back, or the master plans anew; those that refused do not.
    const bool all_refused = std::ranges::all_of(tensor.plan.sources, [&](PeerId s) { return tensor.excluded.contains(s); });
    if (all_refused) give_up(tensor, "gave");
}

void StateTransfer::give_up(const Tensor &tensor, const char *what) {
    pulling_ = false;
    host_.state_pulled(sync_, false, std::string("no holder ") + what + " tensor " + std::to_string(tensor.plan.index));
}

void StateTransfer::exclude(Tensor &tensor, PeerId source, const std::string &why) {
    PCCL_LOG_WARN("shared state: %s %s tensor %u", to_string(source).c_str(), why.c_str(), tensor.plan.index);
    tensor.excluded.insert(source);
    take_back(source);
    if (!tensor.listed) return ask_list(tensor);
    const bool any_left = std::ranges::any_of(tensor.plan.sources, [&](PeerId s) { return !tensor.excluded.contains(s); });
    if (any_left) return ask_chunks();
    give_up(tensor, "gave all of");
}

/// What was asked of a holder is to be asked of others. What it still sends of it is dropped.
void StateTransfer::take_back(PeerId source) {
    Source &holder = sources_[source];
    for (const auto &[piece, asked] : holder.asked)
        todo_.push_front(piece);
    holder.asked.clear();
    if (Link *link = links_.up(source)) link->detach(this);
}

/// Looks for holders that have fallen silent: a process that was stopped, say, before the master finds out.
void StateTransfer::tick(Time now) {
    const bool blind = now - ticked_ > kBlind;
    ticked_ = now;
    if (!pulling_) return;
    bool changed = false;
    for (auto &[id, source] : sources_) {
        const Link *link = links_.up(id);
        if (!link) continue;
        const std::uint64_t read = link->read_bytes();
        if (read != source.read || blind) source.heard = now;
        if (read != source.read && std::exchange(source.silent, false)) changed = true;
        source.read = read;
        if (!source.silent && now - source.heard >= kPatience) changed = fell_silent(id, source) || changed;
    }
    if (changed && pulling_) ask_chunks();
}

/// False if it owes nothing, or there is nobody else to ask.
bool StateTransfer::fell_silent(PeerId id, Source &source) {
    const auto owes_list = [&](const Tensor &tensor) { return !tensor.listed && tensor.list_from == id; };
    if (source.asked.empty() && std::ranges::none_of(tensors_, [&](const auto &entry) { return owes_list(entry.second); })) return false;
    source.silent = true;
    const auto others_give = [&](const auto &entry) { return gives(entry.second, id) && !may_ask(entry.second, id); };
    source.silent = std::ranges::any_of(tensors_, others_give);
    if (!source.silent) return false;
    PCCL_LOG_WARN("shared state: %s sends nothing; the others are asked", to_string(id).c_str());
    take_back(id);
    for (auto &[index, tensor] : tensors_) {
        if (pulling_ && owes_list(tensor)) ask_list(tensor);
    }
    return true;
}

StateTransfer::Asked *StateTransfer::asked_of(PeerId id, Piece piece) {
    const auto source = sources_.find(id);
    if (source == sources_.end()) return nullptr;
    const auto asked = source->second.asked.find(piece);
    return asked == source->second.asked.end() ? nullptr : &asked->second;
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

/// Whether it holds the tensor and can be reached.
bool StateTransfer::gives(const Tensor &tensor, PeerId source) {
    return !tensor.excluded.contains(source) && std::ranges::find(tensor.plan.sources, source) != tensor.plan.sources.end() && links_.up(source);
}

/// One that is silent only if all are.
bool StateTransfer::may_ask(const Tensor &tensor, PeerId source) {
    if (!gives(tensor, source)) return false;
    const auto silent = [&](PeerId id) { return sources_[id].silent; };
    return !silent(source) || std::ranges::none_of(tensor.plan.sources, [&](PeerId s) { return !silent(s) && gives(tensor, s); });
}

/// Asks a holder for the first missing chunk that it has, if it has room for more.
bool StateTransfer::ask_one(PeerId id, Time now) {
    Source &source = sources_[id];
    if (source.asked.size() >= source.window.size()) return false;
    const auto piece = std::ranges::find_if(todo_, [&](const Piece &p) { return may_ask(tensors_.at(p.tensor), id); });
    if (piece == todo_.end()) return false;
    if (source.asked.empty()) source.heard = now;
    source.asked[*piece] = {source.window.ask(now), sync_, false, false};
    links_.up(id)->send_urgent(request(FrameKind::state_ask_chunk, tensors_.at(piece->tensor), piece->chunk));
    todo_.erase(piece);
    return true;
}

/// In turn, so that a few chunks are spread, too.
void StateTransfer::ask_chunks() {
    if (todo_.empty()) return;
    std::set<PeerId> able;
    for (const auto &[index, tensor] : tensors_) able.insert(tensor.plan.sources.begin(), tensor.plan.sources.end());
    const Time now = monotonic_now();
    while (!todo_.empty() && !able.empty())
        std::erase_if(able, [&](PeerId source) { return !links_.up(source) || !ask_one(source, now); });
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
    if (!staged.memory) {
        staged.memory.reset(new (std::nothrow) std::byte[tensor.bytes]);
        if (!staged.memory) throw NoMemory(tensor.bytes, "a tensor of shared state that is received beside the old one", "free some");
    }
    return staged.memory.get() + offset;
}

void StateTransfer::take_chunk(PeerId from, const FrameHeader &header, const std::byte *payload) {
    const Piece piece{header.index, header.aux};
    Source &source = sources_[from];
    const auto asked = source.asked.extract(piece);
    if (!asked) return;
    const Time now = monotonic_now();
    source.window.arrived(now, asked.mapped().ticket);
    source.heard = now;
    Tensor &tensor = tensors_.at(piece.tensor);
    session_->rx_bytes += header.bytes;
    if (kernel::checksum(payload, header.bytes) != tensor.list[piece.chunk]) {
        if (asked.mapped().doubted || !links_.up(from)) {
            todo_.push_back(piece);
            return exclude(tensor, from, "gave false bytes for");
        }
        source.asked[piece] = {source.window.ask(now), sync_, true, false};
        return links_.up(from)->send_urgent(request(FrameKind::state_ask_chunk, tensor, piece.chunk, true));
    }
    if (std::byte *const into = destination(piece); into != payload) std::memcpy(into, payload, header.bytes);
    if (in_place_) session_->tensors[piece.tensor].checksums[piece.chunk] = tensor.list[piece.chunk];
    else session_->staged[piece.tensor].chunks[piece.chunk] = tensor.list[piece.chunk];
    ask_chunks();
    check_done();
}

void StateTransfer::check_done() {
    if (!pulling_ || !todo_.empty()) return;
    for (const auto &[id, source] : sources_) {
        if (!source.asked.empty()) return;
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
    return {FrameKind::state_ask_list, FrameKind::state_list, FrameKind::state_ask_chunk, FrameKind::state_chunk, FrameKind::state_refuse};
}

Intake StateTransfer::prepare_receive(Link &link, const FrameHeader &header) {
    if (header.kind == FrameKind::state_chunk) {
        const Piece piece{header.index, header.aux};
        Asked *asked = pulling_ ? asked_of(link.other(), piece) : nullptr;
        if (!asked || asked->sync != header.epoch || asked->arriving) return {};
        if (header.bytes != session_->tensors[piece.tensor].chunk_bytes(piece.chunk)) return Intake::reject("a chunk of state of the wrong length");
        asked->arriving = true;
        if (asked->doubted) {  // this peer's program may have written over the first one after it arrived
            Intake take = Intake::take(Buffer(new std::byte[header.bytes]));
            take.owner = this;
            take.taker_checks = true;
            return take;
        }
        // Checked against the list, not against the frame: bytes that the holder has changed are no reason to break the link.
        return {Intake::Action::take, destination(piece), nullptr, this, "", true};
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
    const auto tensor = tensors_.find(header.index);
    if (!pulling_ || tensor == tensors_.end()) return true;
    switch (header.kind) {
    case FrameKind::state_list:
        if (header.epoch == sync_ && !tensor->second.listed && tensor->second.list_from == from) take_list(tensor->second, from, header, payload);
        break;
    case FrameKind::state_chunk: take_chunk(from, header, payload); break;
    case FrameKind::state_refuse: {
        const Asked *asked = asked_of(from, {header.index, header.aux});
        const bool of_now = header.epoch == sync_ || (asked && asked->sync == header.epoch);
        if (of_now && !tensor->second.excluded.contains(from)) exclude(tensor->second, from, "refused");
        break;
    }
    default: break;
    }
    return true;
}

void StateTransfer::unwritable(const FrameHeader &header) {
    if (session_ && header.index < session_->tensors.size()) spoil(header.index, "freed");
}

void StateTransfer::link_down(PeerId other) {
    servers_.erase(other);
    if (!pulling_) return;
    take_back(other);
    sources_.erase(other);
    for (auto &[index, tensor] : tensors_) {
        if (pulling_ && !tensor.listed && tensor.list_from == other) ask_list(tensor);
    }
    if (pulling_) ask_chunks();
}

}  // namespace pccl::peer
