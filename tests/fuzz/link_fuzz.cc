// Frames on data lanes: greetings, headers, specs, chunks, probes, shared state and messages, valid and invalid, on several lanes
// at once, cut anywhere. Nothing outside the posted buffers is written, nothing is written after the operation or session has
// ended, and shared state that counts as pulled equals the elected content byte for byte, whatever frames the remotes send.
#include <cstdint>

#include "base/log.h"
#include "collective/ring_plan.h"
#include "link_scene.h"

namespace {

using namespace pccl;
using namespace pccl::fuzz;

constexpr std::size_t kBig = kernel::kHashChunkBytes + 100;  ///< two chunks

/// Contents that tensors may have: 0 and 1 differ in every chunk.
struct Content {
    Content(std::size_t bytes, char fill)
        : data(bytes, fill), list(kernel::chunk_checksums(data.data(), bytes)), hash(kernel::content_hash(list)) {}
    std::string data;
    std::vector<std::uint64_t> list;
    kernel::ContentHash hash;
};

const Content &content(std::size_t tensor, std::size_t which) {
    static const std::array<std::array<Content, 2>, 2> all{{{{{kBig, 'a'}, {kBig, 'b'}}}, {{{100, 'c'}, {100, 'd'}}}}};
    return all[tensor][which];
}

struct Op {
    OpId id;
    std::vector<float> send, recv;
    ReduceRequest request;
};

class Scene {
public:
    explicit Scene(Input &input) : input_(input) { scene_.options.compression = Compression::on; }

    void run() {
        for (const PeerId other : {PeerId{2}, PeerId{3}}) {
            scene_.expect_link(other);
            scene_.greet(scene_.connect(other), 1, other);
        }
        scene_.messages.set_members({kSelf, PeerId{2}, PeerId{3}});
        scene_.office.set_limits({100'000, 4});
        start_epoch();
        for (int steps = 0; !input_.empty() && steps < 400; ++steps) {
            act();
            scene_.turn();
            check_pull();
        }
        end_sync();
        for (const auto &op : ops_)
            scene_.engine.end(op->id, false);
        const auto before = snapshot();
        for (Remote &remote : scene_.remotes)
            scene_.deliver(remote, SIZE_MAX);
        FUZZ_CHECK(before == snapshot());  // no buffer was written after its operation had ended
        scene_.links.drop_all();
        scene_.turn();
    }

private:
    void act() {
        switch (input_.below(20)) {
        case 0: return local();
        case 1: return start_op();
        case 2: return sync();
        case 3: return lanes();
        case 4:
        case 5:
        case 6: return scene_.deliver(remote(), input_.below(3) == 0 ? input_.take<std::uint16_t>() : SIZE_MAX);
        case 7:
        case 8: return answer(remote());
        case 9: remote().outbox += input_.text(70); return;
        default: return send_frame(remote());
        }
    }
    Remote &remote() { return input_.any_of(scene_.remotes); }

    // ---- actions of the peer itself
    void start_epoch() {
        for (const auto &op : ops_)
            scene_.engine.end(op->id, false);
        ops_.clear();
        protocol::StartEpoch epoch{ViewNumber{++epoch_}, {kSelf, PeerId{2}, PeerId{3}}, 0, input_.below(2) == 0, {}, {}};
        if (input_.one_in(4)) epoch.ring.pop_back();
        scene_.engine.start_epoch(epoch, kSelf);
        next_seq_.clear();
    }
    void start_op() {
        auto op = std::make_unique<Op>();
        static constexpr std::size_t kCounts[] = {1, 300, 5000, 40000};
        const std::size_t count = input_.any_of(kCounts);
        const auto tag = static_cast<std::uint32_t>(input_.below(3));
        op->id = {ViewNumber{epoch_}, Tag{tag}, next_seq_[tag]};
        if (std::ranges::any_of(ops_, [&](const auto &o) { return o->id.tag == op->id.tag; })) return;
        ++next_seq_[tag];
        op->send.assign(count, 1.0f);
        op->recv.assign(count, 0.0f);
        op->request.spec = what(count);
        op->request.set_buffers(input_.below(2) ? op->recv.data() : op->send.data(), op->recv.data());
        op->request.begin_undo();
        scene_.engine.start(op->id, op->request);
        ops_.push_back(std::move(op));
    }
    op::OperationSpec what(std::size_t count) {
        op::OperationSpec f;
        f.count = count;
        f.type = op::Type::f32;
        f.op = input_.one_in(4) ? op::Op::max : op::Op::sum;
        f.algorithm = static_cast<op::Algorithm>(input_.below(op::kAlgorithms));
        return f;
    }
    void local() {
        switch (input_.below(8)) {
        case 0: return start_epoch();
        case 4: return post();
        case 5: return take_message();
        case 6: return scene_.messages.tick(Time{});
        case 7:
            if (input_.one_in(4))
                scene_.lose(PeerId{2 + input_.below(2)});
            else
                scene_.messages.set_members({kSelf, PeerId{2}, PeerId{3}});
            return;
        case 1:
            if (ops_.empty()) return;
            scene_.engine.end(ops_.front()->id, input_.below(2) != 0);
            ended_.push_back(std::move(ops_.front()));
            ops_.erase(ops_.begin());
            return;
        case 2: return scene_.prober.start({round_, PeerId{2 + input_.below(2)}, 0});
        default: round_ = input_.below(3);
        }
    }
    void post() {
        if (posts_.size() >= 16) return;
        auto post = std::make_shared<Post>();
        post->to = PeerId{2 + input_.below(2)};
        post->tag = Tag{input_.below(2)};
        post->bytes = input_.below(2) ? input_.take<std::uint8_t>() : wire::kMaxInlineMessage + input_.take<std::uint16_t>();
        post->data = kPosted.data();
        if (input_.one_in(4)) post->deadline = Time{};
        scene_.messages.post(post);
        posts_.push_back(std::move(post));
    }
    void take_message() {
        Message message;
        if (!scene_.office.take(Tag{input_.below(2)}, SIZE_MAX, Time{}, message)) return;
        FUZZ_CHECK(message.bytes <= 100'000);
        scene_.messages.room_made();
    }
    void sync() {
        if (!session_) {
            session_ = std::make_shared<SyncSession>();
            for (std::size_t t = 0; t < 2; ++t) {
                const Content &mine = content(t, input_.below(2));
                memory_[t] = mine.data;
                session_->tensors.push_back({{memory_[t].data(), memory_[t].size()}, mine.list, mine.hash});
            }
            scene_.transfer.offer(session_);
        }
        if (input_.one_in(8)) return end_sync();
        wire::SyncPlan plan;
        plan.sync = ++sync_;
        plan.in_place = input_.below(2) == 0;
        for (std::size_t t = 0; t < 2; ++t) {
            if (input_.one_in(4)) continue;
            elected_[t] = input_.below(2);
            plan.pull.push_back({static_cast<std::uint32_t>(t), content(t, elected_[t]).hash.bytes, {PeerId{2}, PeerId{3}}});
        }
        plan_ = plan;
        scene_.pulled.reset();
        scene_.transfer.pull(plan);
    }
    /// After a pull that counts as done, the tensors that it names must hold the elected content.
    void check_pull() {
        if (!scene_.pulled || scene_.pulled->first != sync_ || !scene_.pulled->second || plan_.pull.empty()) return;
        const auto session = session_;
        const wire::SyncPlan plan = plan_;
        if (!input_.one_in(3)) return;  // other frames may arrive before the commit
        scene_.transfer.end(sync_);
        session->apply();
        for (const auto &tensor : plan.pull)
            FUZZ_CHECK(memory_[tensor.index] == content(tensor.index, elected_[tensor.index]).data);
        forget_session();
    }
    void end_sync() {
        if (!session_) return;
        scene_.transfer.end(0);
        forget_session();
    }
    void forget_session() {
        session_.reset();
        plan_ = {};
        scene_.pulled.reset();
    }
    void lanes() {
        const PeerId other{2 + input_.below(2)};
        switch (input_.below(4)) {
        case 0: return scene_.expect_link(other);
        case 1: return LinkScene::close(remote());
        default:
            if (scene_.remotes.size() >= 12) return;
            scene_.greet(scene_.connect(other), input_.mostly(scene_.attempts[other]), PeerId{input_.mostly(other.value)});
        }
    }

    // ---- frames of the remotes
    void send_frame(Remote &to) {
        FrameHeader header;
        header.kind = static_cast<FrameKind>(input_.below(wire::kFrameKinds + 1));
        std::string payload;
        const auto kind = header.kind;
        if (LinkScene::receives(scene_.transfer, kind)) {
            payload = state_frame(header);
        } else if (LinkScene::receives(scene_.prober, kind)) {
            header.epoch = input_.mostly(round_);
            header.offset = input_.take<std::uint8_t>();
            header.aux = input_.take<std::uint8_t>();
            if (kind == FrameKind::probe_data) payload.assign(input_.take<std::uint16_t>(), '\0');
        } else if (LinkScene::receives(scene_.messages, kind)) {
            payload = message_frame(header);
        } else if (kind == FrameKind::ask_again) {
            payload = header_to_request();
        } else {
            payload = operation_frame(header);
        }
        const auto fate = input_.below(64);
        if (fate >= 40 && fate < 52) compress(header, payload);
        const bool damaged = fate == 63, header_damaged = input_.below(128) == 127;
        LinkScene::send(to, header, payload, damaged, header_damaged);
    }
    /// Compresses the payload, mostly validly. Includes kinds that must not be compressed.
    void compress(FrameHeader &header, std::string &payload) {
        Packed packed;
        static constexpr std::uint8_t kPlanes[] = {1, 4, 2, 8};
        pack(packed, reinterpret_cast<const std::byte *>(payload.data()), payload.size(), input_.any_of(kPlanes));
        if (!packed.bytes) return;
        header.planes = input_.mostly(packed.planes);
        payload.assign(reinterpret_cast<const char *>(packed.bytes.get()), packed.length);
        switch (input_.below(8)) {
        case 5: payload.resize(input_.below(payload.size()) + 1); break;
        case 6: payload[input_.below(payload.size())] ^= static_cast<char>(input_.take<std::uint8_t>()); break;
        case 7: {
            const auto length = input_.mostly(plain_length(packed.bytes.get()));
            std::memcpy(payload.data(), &length, sizeof length);
            break;
        }
        default: break;
        }
    }
    std::string state_frame(FrameHeader &header) {
        const std::size_t tensor = input_.below(2), which = input_.below(2);
        const Content &sent = content(tensor, which);
        header.epoch = input_.mostly(sync_);
        header.index = static_cast<std::uint32_t>(input_.mostly<std::uint8_t>(static_cast<std::uint8_t>(tensor)));
        header.aux = static_cast<std::uint32_t>(input_.below(3));
        header.offset = input_.one_in(4);
        switch (header.kind) {
        case FrameKind::state_list:
            return {reinterpret_cast<const char *>(sent.list.data()), sent.list.size() * 8 - (input_.one_in(16) ? 1 : 0)};
        case FrameKind::state_chunk: {
            const std::size_t begin = std::min<std::size_t>(header.aux * kernel::kHashChunkBytes, sent.data.size());
            return sent.data.substr(begin, kernel::kHashChunkBytes - (input_.one_in(16) ? 1 : 0));
        }
        case FrameKind::state_refuse: return "";
        default: return {reinterpret_cast<const char *>(sent.hash.bytes.data()), sent.hash.bytes.size()};
        }
    }
    std::string message_frame(FrameHeader &header) {
        header.epoch = input_.below(4) != 0 ? input_.below(6) : input_.take<std::uint64_t>();
        header.tag = input_.below(2);
        switch (header.kind) {
        case FrameKind::post_offer: {
            header.aux = static_cast<std::uint32_t>(input_.mostly<std::uint16_t>(wire::kMinMessageChunk));
            const bool whole = input_.below(2) == 0;
            header.offset = input_.one_in(16) ? input_.take<std::uint64_t>() : whole ? input_.below(300) : input_.below(40'000);
            return std::string(whole ? static_cast<std::size_t>(std::min<std::uint64_t>(header.offset, 50'000)) : 0, 'm');
        }
        case FrameKind::post_chunk:
            header.aux = static_cast<std::uint32_t>(input_.below(12));
            return std::string(input_.one_in(4) ? input_.take<std::uint16_t>() : wire::kMinMessageChunk, 'm');
        default:
            header.aux = static_cast<std::uint32_t>(input_.below(protocol::kPostEnds + 1));
            return std::string(input_.one_in(16), 'm');
        }
    }
    /// The payload of ask_again: the header of a frame that the peer may have sent, with the right checksum or another one. See
    /// ask_again_inputs.py.
    std::string header_to_request() {
        static constexpr FrameKind kKinds[] = {FrameKind::reduce_chunk, FrameKind::gather_chunk, FrameKind::direct_chunk,
                                               FrameKind::post_chunk};
        FrameHeader header;
        header.kind = input_.one_in(8) ? static_cast<FrameKind>(input_.below(wire::kFrameKinds)) : input_.any_of(kKinds);
        std::string sent = LinkScene::receives(scene_.messages, header.kind) ? message_frame(header) : operation_frame(header);
        const std::vector<float> ones(sent.size() / sizeof(float), 1.0F);
        if (!LinkScene::receives(scene_.messages, header.kind))
            std::memcpy(sent.data(), ones.data(), ones.size() * sizeof(float));
        header.bytes = static_cast<std::uint32_t>(sent.size());
        header.checksum = kernel::checksum(sent.data(), sent.size()) + input_.one_in(4);
        return {reinterpret_cast<const char *>(&header), sizeof header - (input_.one_in(16) ? 1 : 0)};
    }
    std::string operation_frame(FrameHeader &header) {
        header.epoch = input_.mostly(epoch_);
        header.tag = input_.below(3);
        header.seq = input_.mostly<std::uint8_t>(0);
        wire::Bytes encoded;
        wire::Writer write(encoded);
        const Op *op = nullptr;
        if (!ops_.empty() && input_.below(4) != 0) op = input_.any_of(ops_).get();
        if (op) {
            header.tag = op->id.tag.value;
            header.seq = op->id.seq;
        }
        const op::OperationSpec spec = op && input_.below(8) != 0 ? op->request.spec : what(300);
        write(spec);
        if (header.kind == FrameKind::op_open) return {reinterpret_cast<const char *>(encoded.data()), encoded.size()};
        header.offset = kernel::checksum(encoded.data(), encoded.size());
        header.hop = static_cast<std::uint16_t>(input_.below(4));
        header.index = static_cast<std::uint32_t>(input_.below(4));
        header.aux = static_cast<std::uint32_t>(input_.below(4));
        if (header.kind == FrameKind::reduce_credit || header.kind == FrameKind::link_accept) return input_.text(2);
        const std::size_t n = op ? 3 : input_.below(4) + 1;
        const collective::RingPlan plan(spec.count, 4, n, 0);
        std::size_t elements = spec.count;
        if (header.kind != FrameKind::direct_chunk && header.index < n && header.aux < plan.chunks(header.index))
            elements = plan.chunk(header.index, header.aux).count;
        std::string payload(std::min<std::size_t>(elements, 50000) * 4, '\0');
        if (input_.one_in(16)) payload.resize(input_.take<std::uint16_t>());
        return payload;
    }
    /// Answers the peer's requests for shared state, mostly correctly.
    void answer(Remote &from) {
        scene_.receive(from);
        FrameHeader header;
        std::string payload;
        while (scene_.next_frame(from, header, payload)) {
            const bool list = header.kind == FrameKind::state_ask_list;
            if ((!list && header.kind != FrameKind::state_ask_chunk) || header.index > 1) continue;
            const auto truth = input_.below(8);
            const Content &sent = content(header.index, truth == 7 ? 0 : elected_[header.index]);
            header.kind = list ? FrameKind::state_list : FrameKind::state_chunk;
            if (truth == 6) header.kind = FrameKind::state_refuse;
            if (truth == 6)
                LinkScene::send(from, header, "");
            else if (list)
                LinkScene::send(from, header, {reinterpret_cast<const char *>(sent.list.data()), sent.list.size() * 8});
            else
                LinkScene::send(from, header, sent.data.substr(header.aux * kernel::kHashChunkBytes, kernel::kHashChunkBytes));
        }
    }

    std::vector<std::string> snapshot() const {
        std::vector<std::string> all{memory_[0], memory_[1]};
        for (const auto *list : {&ops_, &ended_}) {
            for (const auto &op : *list)
                all.emplace_back(reinterpret_cast<const char *>(op->recv.data()), op->recv.size() * sizeof(float));
        }
        return all;
    }

    Input &input_;
    std::array<std::string, 2> memory_;  ///< memory of the tensors; outlives the scene, as the callers' buffers do
    std::vector<std::unique_ptr<Op>> ops_, ended_;
    LinkScene scene_;
    std::uint64_t epoch_ = 0, sync_ = 0, round_ = 0;
    std::map<std::uint32_t, std::uint32_t> next_seq_;
    std::shared_ptr<SyncSession> session_;
    wire::SyncPlan plan_;
    std::array<std::size_t, 2> elected_{};
    static inline const std::array<std::byte, wire::kMaxInlineMessage + UINT16_MAX> kPosted{};
    std::vector<PostPtr> posts_;
};

}  // namespace

extern "C" int LLVMFuzzerInitialize(int *, char ***) {
    set_log_level(LogLevel::off);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    Scene(input).run();
    return 0;
}
