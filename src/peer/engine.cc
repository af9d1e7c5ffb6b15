// See engine.h.
#include "peer/engine.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "kernel/hash.h"
#include "peer/careful_copy.h"
#include "peer/direct_op.h"
#include "peer/one_hop_op.h"
#include "peer/ring_op.h"
#include "peer/shard.h"
#include "peer/tcp_tuning.h"

namespace pccl::peer {

using op::OperationSpec;
using wire::FrameHeader;
using wire::FrameKind;

namespace {

/// The limit of an encoded OperationSpec.
constexpr std::size_t kMaxOpeningBytes = 64;

wire::Bytes encode(const OperationSpec &spec) {
    wire::Bytes bytes;
    wire::Writer write(bytes);
    write(spec);
    return bytes;
}

std::string described(const OpId &id, const OperationSpec &spec) {
    return std::string(op::name_of(spec.collective)) + " with tag " + std::to_string(id.tag.value);
}

std::string describe(const OperationSpec &spec) {
    std::string text = "count " + std::to_string(spec.count) + ", type " + op::name_of(spec.type) + ", operator " +
                       op::name_of(spec.op) + ", quantization " + op::name_of(spec.quantization.algorithm);
    if (spec.quantized()) text += std::string(" to ") + op::name_of(spec.quantization.type);
    if (spec.quantization.algorithm == op::Quant::block_scale) {
        text += " in blocks of " + std::to_string(spec.quantization.block) + " with " +
                (spec.quantization.scale == op::Scale::floating ? "float scales" : "powers of two");
    }
    if (spec.on_peer_loss == op::LossPolicy::repair) text += ", repair after a loss";
    return text + (spec.error_feedback ? ", error feedback on" : ", error feedback off") + ", algorithm " +
           op::name_of(spec.algorithm);
}

}  // namespace

void Engine::start_epoch(const protocol::StartEpoch &epoch, PeerId self) {
    epoch_ = epoch.epoch;
    self_ = self;
    ring_ = epoch.ring;
    rank_ = epoch.rank;
    full_mesh_ = epoch.full_mesh;
    path_ = {static_cast<double>(epoch.path.round_trip_us), static_cast<double>(epoch.path.mbit_per_s)};
    begun_.clear();
    floor_ = 0;
    early_.clear();
    repaired_.clear();
    for (const auto &op : epoch.repaired)
        repaired_[op.tag] = op;
    links_.for_each([](Link &link) { link.eager_credit().reset(); });
    links_.for_each([](Link &link) { link.resume(); });
}

std::string Engine::overlap(const ReduceRequest &request) const {
    if (request.overlaps_itself()) return "sendbuff and recvbuff overlap without being equal; pass equal or separate buffers";
    for (const auto &[id, op] : ops_) {
        if (request.overlaps(op->request())) {
            return "its buffers overlap those of the operation with tag " + std::to_string(id.tag.value) +
                   ", which is in flight; await that operation first";
        }
    }
    return "";
}

/// Returns true if the caller's shard was computed for other members than the current ones.
bool Engine::has_stale_shard(const ReduceRequest &request) const {
    if (!request.spec.sharded()) return false;
    const Shard now = shard_of(request.spec.count, ring_, self_);
    return request.membership != now.membership || request.shard != now.span;
}

/// Returns the final elements, at each member, of the operation that this one continues. Null: it is a new operation.
const wire::RepairedOp *Engine::repaired(const OpId &id, const ReduceRequest &request) const {
    const auto found = repaired_.find(id.tag);
    return id.seq == 0 && request.repairs() && found != repaired_.end() ? &found->second : nullptr;
}

/// Returns why the operation cannot continue from the final elements that the view lists. Empty: it can.
std::string Engine::repair_mismatch(const OpId &id, const ReduceRequest &request) const {
    const auto *how = repaired(id, request);
    op::FinalRanges mine;
    for (const auto &holding : how ? how->holdings : std::vector<wire::Holding>{}) {
        if (holding.member == self_) mine = holding.final;
        if (holding.final.empty() || !wire::well_formed(holding.final))
            return "the view lists its final elements in an invalid form";
        const auto &last = holding.final.back();
        if (last.begin + last.count > request.spec.count) return "another member calls it with a larger count";
    }
    return mine == request.finals ? "" : "the view lists other final elements for this member than it has";
}

template <class F> void Engine::for_each_link(const std::vector<PeerId> &peers, F &&f) {
    for (const PeerId peer : peers) {
        if (Link *link = links_.up(peer)) f(*link);
    }
}

/// Sends the specification of an operation posted here to its partners.
void Engine::announce(const Operation &op, const std::vector<PeerId> &to) {
    FrameHeader header;
    header.kind = FrameKind::op_open;
    header.epoch = op.id().epoch.value;
    header.tag = op.id().tag.value;
    header.seq = op.id().seq;
    const auto payload = encode(op.spec());
    for_each_link(to, [&](Link &link) { link.send_urgent(small_frame(header, payload)); });
}

void Engine::neighbours(std::vector<PeerId> &to) const {
    const std::size_t n = ring_.size();
    if (n > 1) to.push_back(ring_[(rank_ + 1) % n]);
    if (n > 2) to.push_back(ring_[(rank_ + n - 1) % n]);
}

/// Continues an operation after a loss, always with the ring (collective/repair_plan.h). `held` lists the final elements by rank.
std::unique_ptr<Operation> Engine::make_repair(const OpId &id, ReduceRequest &request, std::uint64_t spec_hash,
                                               const std::vector<op::FinalRanges> &held) {
    const std::size_t element_bytes = op::size_of(request.spec.type), most = collective::max_chunk_bytes(request.spec, path_);
    auto repair = collective::plan_repair(request.spec.count, held, most / element_bytes);
    const collective::RingPlan plan(repair.open, element_bytes, ring_.size(), rank_, most);
    return std::make_unique<RingOp>(id, request, spec_hash, ring_, plan, pool_, collective::bytes_in_flight(path_),
                                    std::move(repair.missing));
}

/// Appends the members with which the operation exchanges frames to `to`.
std::unique_ptr<Operation> Engine::make_operation(const OpId &id, ReduceRequest &request, std::uint64_t spec_hash,
                                                  std::vector<PeerId> &to) {
    const std::size_t n = ring_.size();
    if (const auto *how = repaired(id, request); how && (n == 1 || !how->holdings.empty())) {
        std::vector<op::FinalRanges> held(n);
        for (const auto &holding : how->holdings) {
            const auto rank = static_cast<std::size_t>(std::ranges::find(ring_, holding.member) - ring_.begin());
            if (rank < n) held[rank] = holding.final;
        }
        neighbours(to);
        return make_repair(id, request, spec_hash, held);
    }
    const auto algorithm = collective::choose_algorithm(request.spec, n, full_mesh_, path_);
    if (algorithm != op::Algorithm::ring) {
        for (std::size_t i = 1; i < n; ++i)
            to.push_back(ring_[(rank_ + i) % n]);
        if (algorithm == op::Algorithm::direct) {
            const collective::DirectPlan plan(request.spec.count, op::size_of(request.spec.type), collective::is_long(path_));
            return std::make_unique<DirectOp>(id, request, spec_hash, ring_, rank_, plan, pool_);
        }
        return std::make_unique<OneHopOp>(id, request, spec_hash, ring_, rank_, pool_, links_);
    }
    neighbours(to);
    const auto blocks = collective::blocks_of(request.spec.collective, request.spec.count, ring_, op::kQuantBlock);
    const collective::RingPlan plan(request.spec.collective, blocks, op::size_of(request.spec.type), rank_,
                                    collective::max_chunk_bytes(request.spec, path_));
    return std::make_unique<RingOp>(id, request, spec_hash, ring_, plan, pool_, collective::bytes_in_flight(path_));
}

void Engine::start(const OpId &id, ReduceRequest &request) {
    begun_[id.tag] = id.seq + 1;
    std::string conflict = repair_mismatch(id, request);
    if (conflict.empty()) {
        conflict = overlap(request);
    } else {
        request.finals.clear();
        repaired_.erase(id.tag);
    }
    const auto encoded = encode(request.spec);
    const std::uint64_t spec_hash = kernel::checksum(encoded.data(), encoded.size());
    pcclResult_t failure = pcclInvalidUsage;
    if (conflict.empty() && has_stale_shard(request)) {
        failure = pcclRankConnectionLost;
        conflict = "the members have changed since pcclGetShard: call it again";
    }
    if (conflict.empty() && !request.refusal.empty()) {
        failure = pcclInvalidArgument;
        conflict = request.refusal;
    }
    if (const Link *link = links_.up(ring_[(rank_ + 1) % ring_.size()])) request.lanes = link->lanes();
    std::vector<PeerId> partners;
    auto &op = *(ops_[id] = make_operation(id, request, spec_hash, partners));
    if (!conflict.empty()) {
        op.reported = true;
        return host_.op_broken(id, failure, described(id, request.spec) + " at " + to_string(self_) + ": " + conflict, false);
    }
    near_ = true;
    for_each_link(partners, [&](Link &link) {
        near_ = near_ && link.round_trip() < kLongPath;
        link.add_producer(&op);
    });
    announce(op, partners);  // the links send the first chunks with it, in one system call
    replay_early_frames(op);
    if (op.finished() && !op.reported) {  // this member already holds every element
        op.reported = true;
        host_.op_finished(id);
    }
}

/// Gives a newly posted operation the frames that arrived before.
void Engine::replay_early_frames(Operation &op) {
    const auto found = early_.find(op.id());
    if (found == early_.end()) return;
    const Early early = std::move(found->second);
    early_.erase(found);
    release_early(early, links_);
    for (const auto &[other, theirs] : early.openings)
        compare(op, other, theirs);
    for (const auto &chunk : early.chunks) {
        (void)receive_chunk(*chunk.link, chunk.header, chunk.payload.get(), chunk.payload, chunk.saved,
                            nullptr);  // its checksum was verified on arrival
    }
}

void Engine::end(const OpId &id, bool committed) {
    const auto found = ops_.find(id);
    if (found == ops_.end()) return;
    Operation *op = found->second.get();
    if (committed) links_.for_each([&](Link &link) { op->posted_at(link); });  // a committed operation was posted by every member
    detach(*op);
    if (committed) op->finish_local();
    if (committed && op->request().repairs()) op->record_finals();
    if (const auto &residual = op->request().residual; residual && committed)
        residual->replace(std::move(op->request().next_residual));
    ops_.erase(found);
}

void Engine::detach(Operation &op) {
    links_.for_each([&](Link &link) {
        link.remove_producer(&op);
        link.detach(&op);
        link.forget_damaged(op.id());
    });
}

std::vector<wire::CarriedOp> Engine::carry(const std::vector<OpId> &ops) {
    std::vector<wire::CarriedOp> carried;
    for (const OpId &id : ops) {
        const auto found = ops_.find(id);
        if (found == ops_.end()) {
            carried.push_back({id.tag, id.seq, {}});
            continue;
        }
        Operation &op = *found->second;
        detach(op);
        op.suspend_for_repair();
        auto &request = op.request();
        if (request.repairs_made++ == 0) request.tx_before_loss = request.tx_bytes;
        carried.push_back({id.tag, id.seq, request.finals});
        ops_.erase(found);
    }
    return carried;
}

void Engine::clear(const Error &) {
    ops_.clear();
    early_.clear();
    begun_.clear();
    floor_ = 0;
    ring_.clear();
    epoch_ = {};
}

Engine::Known Engine::known(const OpId &id) const {
    if (ops_.contains(id)) return Known::running;
    const auto begun = begun_.find(id.tag);
    return id.seq < (begun != begun_.end() ? begun->second : floor_) ? Known::ended : Known::early;
}

void Engine::drop_tags(const protocol::DropTags &drop) {
    if (drop.floor <= floor_) return;
    const std::set<Tag> keep(drop.keep.begin(), drop.keep.end());
    for (const Tag tag : keep)
        begun_.try_emplace(tag, floor_);
    std::erase_if(begun_, [&](const auto &entry) { return !keep.contains(entry.first); });
    floor_ = drop.floor;
    // An operation that failed before it was called here was never started, and now never will be.
    std::erase_if(early_, [&](const auto &entry) {
        const bool ended = known(entry.first) == Known::ended;
        if (ended) release_early(entry.second, links_);
        return ended;
    });
}

/// Returns the credit of stored frames.
void Engine::release_early(const Early &early, LinkTable &links) {
    for (const auto &[other, theirs] : early.openings) {
        if (Link *link = links.up(other)) link->eager_credit().release(0);
    }
    for (const auto &chunk : early.chunks)
        chunk.link->eager_credit().release(chunk.header.bytes);
}

Intake Engine::intake_early(Link &link, const FrameHeader &header) {
    if (!link.eager_credit().can_hold(header.bytes))
        return Intake::reject("too many frames of operations that are not posted here");
    // The pool keeps its memory between operations. The heap would return large blocks to the system each time.
    const bool large = header.bytes >= BufferPool::kGranularity;
    return Intake::take(large ? pool_.get(header.bytes) : Buffer(new std::byte[header.bytes]));
}

std::vector<FrameKind> Engine::kinds() const {
    return {FrameKind::op_open, FrameKind::reduce_chunk, FrameKind::gather_chunk, FrameKind::direct_chunk,
            FrameKind::reduce_credit};
}

Intake Engine::prepare_receive(Link &link, const FrameHeader &header) {
    if (header.epoch < epoch_.value || header.epoch == 0) return {};
    if (header.epoch > epoch_.value) return Intake::hold();
    if (std::ranges::find(ring_, link.other()) == ring_.end())
        return Intake::reject("a frame of an operation, and it is not a member of it");
    if (header.kind == FrameKind::op_open) {
        if (header.bytes > kMaxOpeningBytes) return Intake::reject("an operation spec that is too long");
        return intake_early(link, header);
    }
    const OpId id = header.op();
    switch (known(id)) {
    case Known::ended: return {};
    case Known::early: return intake_early(link, header);
    case Known::running: break;
    }
    Operation &op = *ops_.at(id);
    if (op.reported && !op.finished()) return {};
    if (header.spec_hash() != op.spec_hash()) return {};  // from a member with another spec: its op_open reports that
    if (const char *why = op.reject_reason(link.other(), header)) return Intake::reject(why);
    return op.prepare_receive(header);
}

bool Engine::receive(Link &link, const FrameHeader &header, std::byte *payload, const Buffer &keep) {
    if (header.epoch != epoch_.value) return true;
    const PackedPtr &packed = link.arrived_packed();
    const std::size_t saved = packed ? header.bytes - packed->length : 0;
    if (header.kind == FrameKind::op_open) {
        receive_opening(link, header, payload);
        return true;
    }
    switch (known(header.op())) {
    case Known::ended: return true;
    case Known::running: return receive_chunk(link, header, payload, keep, saved, packed);
    case Known::early: break;
    }
    link.eager_credit().hold(header.bytes);
    early_[header.op()].chunks.push_back({link.shared_from_this(), header, keep, saved});
    return true;
}

bool Engine::receive_chunk(Link &link, const FrameHeader &header, std::byte *payload, const Buffer &keep, std::size_t saved,
                           const PackedPtr &packed) {
    Operation &op = *ops_.at(header.op());
    if ((op.reported && !op.finished()) || header.spec_hash() != op.spec_hash()) return true;
    if (const char *why = op.reject_reason(link.other(), header)) {  // only early frames and duplicates get here
        PCCL_LOG_WARN("%s sent %s", to_string(link.other()).c_str(), why);
        return true;
    }
    op.posted_at(link);  // its chunks show that it has posted the operation, even if its op_open has not arrived
    op.arrived_packed = packed;
    const Received received = op.receive(header, payload, keep);
    op.arrived_packed.reset();
    op.request().rx_bytes -= saved;
    if (received == Received::damaged) return false;
    if (!op.wake_senders(link)) {
        if (Link *successor = links_.up(ring_[(rank_ + 1) % ring_.size()])) successor->kick();
    }
    if (received == Received::last && !op.reported) {
        op.reported = true;
        host_.op_finished(op.id());
    }
    return true;
}

void Engine::send_again(Link &link, const FrameHeader &sent) {
    const auto found = ops_.find(sent.op());
    if (found == ops_.end() || found->second->spoiled) return;  // the operation has failed or ended
    Operation &op = *found->second;
    const Source source = sent.spec_hash() == op.spec_hash() ? op.source(link.other(), sent) : Source{};
    if (source.memory == Source::Memory::none) return link.give_up("it requested a frame again that was not sent to it");
    if (source.memory == Source::Memory::gone) return link.give_up("the path damages frames: one arrived with a wrong checksum");
    const bool callers = source.memory != Source::Memory::library;
    const char *const buffer = source.memory == Source::Memory::recvbuff ? "recvbuff" : "sendbuff";
    const Buffer copy = pool_.get(sent.bytes);
    if (!copy_carefully(copy.get(), source.bytes, sent.bytes)) return spoil(op, buffer, "was freed");
    if (callers && kernel::checksum(copy.get(), sent.bytes) != sent.checksum) return spoil(op, buffer, "was modified");
    op.request().tx_bytes += wire::kFrameHeaderBytes + sent.bytes;
    link.send_again(sent, copy);
}

void Engine::unwritable(const FrameHeader &header) {
    const auto found = ops_.find(header.op());
    if (found != ops_.end() && !found->second->spoiled) spoil(*found->second, "recvbuff", "was freed");
}

void Engine::spoil(Operation &op, const char *buffer, const char *what) {
    op.spoiled = op.reported = true;
    host_.op_broken(op.id(), pcclInvalidUsage,
                    std::string(buffer) + " of the " + described(op.id(), op.spec()) + " " + what +
                        " while it ran, by the program of " + to_string(self_) +
                        ". Do not change or free the buffers of an operation before its call or await has returned",
                    true);
}

void Engine::receive_opening(Link &link, const FrameHeader &header, const std::byte *payload) {
    OperationSpec theirs;
    wire::Reader read(std::span(payload, header.bytes));
    read(theirs);
    if (!read.finished()) {
        PCCL_LOG_WARN("%s sent a malformed operation spec", to_string(link.other()).c_str());
        return;
    }
    const OpId id = header.op();
    switch (known(id)) {
    case Known::ended: return;
    case Known::running: return compare(*ops_.at(id), link.other(), theirs);
    case Known::early: break;
    }
    const bool first = early_[id].openings.insert_or_assign(link.other(), theirs).second;
    if (first) link.eager_credit().hold(0);
}

/// The other member has posted the operation. With an equal spec, chunks to it need no credit from now on.
void Engine::compare(Operation &op, PeerId other, const OperationSpec &theirs) {
    if (theirs == op.spec()) {
        Link *link = links_.up(other);
        if (!link) return;
        op.posted_at(*link);
        return link->kick();
    }
    if (op.reported) return;
    op.reported = true;
    host_.op_broken(op.id(), pcclInvalidUsage,
                    described(op.id(), op.spec()) + ": " + to_string(self_) + " calls it with " + describe(op.spec()) + "; " +
                        to_string(other) + " calls " +
                        (theirs.collective == op.spec().collective ? "it" : name_of(theirs.collective)) + " with " +
                        describe(theirs),
                    false);
}

}  // namespace pccl::peer
