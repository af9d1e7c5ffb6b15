// protocol::Master with two correct peers in a group of their own and other peers that send arbitrary messages, often with valid
// ids, numbers and views. The correct peers are never removed; their operation commits and their calls return once the others are
// gone. Every message of the master can be encoded and decoded, none is sent to a connection that has ended, and no state of
// departed peers is left.
#include <map>
#include <optional>
#include <set>

#include "check.h"
#include "input.h"
#include "protocol/master.h"

namespace {

using namespace pccl;
using namespace pccl::protocol;
using fuzz::Input;

constexpr std::size_t kCrowd = 6;
constexpr GroupId kHonestGroup{9};

/// The facts that a peer knows from the messages it received. Arbitrary messages are derived from them.
struct Knowledge {
    std::uint64_t id = 0, freeze = 0, epoch = 0, number = 0, generation = 0, sync = 0, round = 0;
    std::uint32_t call = 1;
    std::map<PeerId, std::uint32_t> attempts;
    std::vector<PeerId> probes;
    bool member = false;

    void receive(const wire::ToPeer &message) {
        if (const auto *m = std::get_if<wire::Welcome>(&message)) id = m->you.value;
        if (const auto *m = std::get_if<wire::OpenLink>(&message)) attempts[m->other] = m->attempt;
        if (const auto *m = std::get_if<wire::CloseLink>(&message)) attempts.erase(m->other);
        if (const auto *m = std::get_if<wire::Freeze>(&message)) freeze = m->freeze;
        if (const auto *m = std::get_if<wire::CallDone>(&message)) generation = m->generation;
        if (const auto *m = std::get_if<wire::SyncPlan>(&message)) sync = m->sync;
        if (const auto *m = std::get_if<wire::View>(&message)) {
            FUZZ_CHECK(m->number.value > number);
            number = m->number.value;
            epoch = m->epoch.value;
            member = true;
        }
        if (const auto *m = std::get_if<wire::Probe>(&message)) {
            round = m->round;
            probes.push_back(m->to);
        }
    }
};

struct Conn {
    ConnId id;
    bool open = true;
    Knowledge knows;
    std::vector<wire::ToPeer> inbox;  ///< only of the correct peers
    std::size_t calls = 1;            ///< calls that the correct peers have made; the first is connect

    template <class M> std::size_t received() const {
        return static_cast<std::size_t>(std::ranges::count_if(inbox, [](const auto &m) { return std::holds_alternative<M>(m); }));
    }
};

class Scene {
public:
    explicit Scene(Input &input)
        : input_(input), master_({}, [n = std::uint64_t{0}]() mutable {
              Secret secret{};
              std::memcpy(secret.data(), &++n, sizeof n);
              return secret;
          }) {}

    void run() {
        Conn &a = join_honest(), &b = join_honest();
        vote(a);
        FUZZ_CHECK(a.knows.member && b.knows.member);
        while (!input_.empty())
            act();
        for (Conn &conn : crowd_) {
            if (conn.open) disconnect(conn);
        }
        for (Conn &conn : honest_)
            vote(conn);
        FUZZ_CHECK(!calling(a) && !calling(b));
        const OpId op{ViewNumber{a.knows.epoch}, Tag{77}, next_seq_};
        const std::size_t commits = a.received<wire::Commit>();
        send(a, wire::Done{{op}});
        send(b, wire::Done{{op}});
        FUZZ_CHECK(a.received<wire::Commit>() == commits + 1 && b.received<wire::Commit>() >= 1);
        FUZZ_CHECK(master_.members().size() == 2);
        ending_ = true;
        disconnect(a);
        disconnect(b);
        FUZZ_CHECK(master_.members().empty());
        honest_.clear();
        crowd_.clear();
        FUZZ_CHECK(fuzz::heap_bytes() <= fresh_ + 4096);
    }

private:
    Conn &join_honest() {
        Conn &conn = honest_.emplace_back();
        connect(conn);
        send(conn, wire::Hello{wire::kMagic, wire::kVersion, kHonestGroup, {}, 0});
        return conn;
    }
    static bool calling(const Conn &conn) { return conn.received<wire::CallDone>() < conn.calls; }
    void vote(Conn &conn) {
        if (!calling(conn)) send(conn, wire::VoteUpdate{static_cast<std::uint32_t>(++conn.calls)});
    }

    void act() {
        switch (input_.below(8)) {
        case 0: return pass_time();
        case 1: return honest_act();
        case 2:
            if (crowd_.size() < kCrowd || input_.one_in(2)) return come();
            return go();
        default: break;
        }
        std::vector<Conn *> open;
        for (Conn &conn : crowd_) {
            if (conn.open) open.push_back(&conn);
        }
        if (open.empty()) return come();
        Conn &conn = *input_.any_of(open);
        if (input_.one_in(32)) return feed(BytesReceived{conn.id});
        send(conn, arbitrary(conn));
    }

    void come() {
        for (Conn &conn : crowd_) {
            if (conn.open) continue;
            conn = {};
            return newcomer(conn);
        }
        if (crowd_.size() < kCrowd) newcomer(crowd_.emplace_back());
    }
    void newcomer(Conn &conn) {
        connect(conn);
        if (input_.one_in(4)) return;
        send(conn, wire::Hello{wire::kMagic, wire::kVersion, GroupId{static_cast<std::uint32_t>(input_.below(2))}, {}, 0});
    }
    void go() {
        Conn &conn = input_.any_of(crowd_);
        if (conn.open) disconnect(conn);
    }

    void pass_time() {
        static constexpr Duration kSteps[] = {std::chrono::milliseconds(1), std::chrono::milliseconds(500),
                                              std::chrono::seconds(2), std::chrono::seconds(4)};
        const Duration step = input_.any_of(kSteps);
        now_ = now_ + step;
        for (Conn &conn : honest_)
            send(conn, wire::Heartbeat{});
        if (master_.next_timeout() <= now_) feed(MasterTick{});
        FUZZ_CHECK(master_.next_timeout() > now_);
    }

    void honest_act() {
        if (input_.one_in(2)) {
            for (Conn &conn : honest_)
                vote(conn);
            return;
        }
        if (calling(honest_[0]) || calling(honest_[1])) return;
        const OpId op{ViewNumber{honest_[0].knows.epoch}, Tag{77}, next_seq_++};
        const std::size_t commits = honest_[0].received<wire::Commit>();
        for (Conn &conn : honest_)
            send(conn, wire::Done{{op}});
        for (Conn &conn : honest_)
            FUZZ_CHECK(conn.received<wire::Commit>() == commits + 1);
    }

    wire::ToMaster arbitrary(Conn &conn) {
        Knowledge &k = conn.knows;
        switch (input_.below(18)) {
        case 17: return wire::StateFault{input_.mostly(k.sync), input_.text(5)};
        case 16:
            return wire::SetGraph{
                k.call,
                {static_cast<wire::GraphKind>(input_.below(wire::kGraphKinds)), static_cast<std::uint32_t>(input_.below(5)), 1}};
        case 0:
            return wire::Hello{input_.mostly(wire::kMagic),
                               input_.mostly(wire::kVersion),
                               GroupId{input_.below(2) ? 1u : 0u},
                               {},
                               input_.take<std::uint32_t>()};
        case 1: return wire::Heartbeat{};
        case 2:
        case 15: return link_report(k);
        case 3: return wire::VoteUpdate{k.call++};
        case 4: return wire::AskPending{input_.mostly(k.generation), input_.take<std::uint8_t>()};
        case 5: return wire::VoteOptimize{k.call++};
        case 6:
            return wire::ProbeReport{input_.mostly(k.round),
                                     k.probes.empty() ? PeerId{input_.take<std::uint8_t>()} : input_.any_of(k.probes),
                                     input_.take<double>()};
        case 7: return wire::Done{ops(k)};
        case 8:
            return wire::OpFault{op(k), static_cast<pcclResult_t>(input_.below(pcclStatusEnd_)), input_.text(5),
                                 input_.below(2) != 0};
        case 9: return frozen(k);
        case 10: return offer(k);
        case 11: return wire::SyncDone{input_.mostly(k.sync), input_.below(4) != 0, input_.text(5)};
        case 12: return wire::Abort{};
        case 13: return wire::Waiting{static_cast<wire::Blocked>(input_.below(3)), ops(k)};
        default: return wire::Leave{};
        }
    }
    wire::LinkReport link_report(Knowledge &k) {
        PeerId other{input_.take<std::uint8_t>()};
        std::uint32_t attempt = input_.take<std::uint8_t>();
        if (!k.attempts.empty() && input_.below(8) != 0) {
            const auto known = std::next(k.attempts.begin(), static_cast<std::ptrdiff_t>(input_.below(k.attempts.size())));
            other = known->first;
            attempt = input_.mostly(known->second);
        }
        return {other, attempt, input_.below(4) != 0, input_.take<std::uint32_t>(), input_.text(5)};
    }
    OpId op(Knowledge &k) {
        return {ViewNumber{input_.mostly(k.epoch)}, Tag{input_.below(3)},
                static_cast<std::uint32_t>(input_.mostly<std::uint8_t>(0))};
    }
    std::vector<OpId> ops(Knowledge &k) {
        std::vector<OpId> all(input_.below(4));
        for (OpId &one : all)
            one = op(k);
        return all;
    }
    wire::Frozen frozen(Knowledge &k) {
        wire::Frozen m{input_.mostly(k.freeze), {}};
        m.opened.resize(input_.below(4));
        for (auto &count : m.opened)
            count = {Tag{input_.below(3)}, input_.take<std::uint32_t>()};
        return m;
    }
    wire::OfferState offer(Knowledge &k) {
        wire::OfferState m{k.call++, input_.mostly<std::uint64_t>(0), static_cast<wire::Strategy>(input_.below(3)), false, {}};
        m.tensors.resize(input_.below(4));
        for (std::size_t i = 0; i < m.tensors.size(); ++i) {
            m.tensors[i].name = std::string(1, static_cast<char>('a' + i));
            m.tensors[i].count = input_.mostly<std::uint8_t>(1);
            m.tensors[i].allow_content_inequality = input_.one_in(8);
            m.tensors[i].hash[0] = static_cast<std::uint8_t>(input_.below(3));
        }
        return m;
    }

    // Between the fuzzer and the state machine.
    void connect(Conn &conn) {
        conn.id = ConnId{next_conn_++};
        feed(Connected{conn.id, {}});
    }
    void disconnect(Conn &conn) {
        conn.open = false;
        feed(Disconnected{conn.id, "gone"});
    }
    void send(Conn &conn, wire::ToMaster message) {
        FUZZ_CHECK(conn.open || &conn < honest_.data() || &conn >= honest_.data() + honest_.size());
        // Every message passes the codec: one that cannot be encoded and decoded is not sent.
        const wire::Bytes bytes = wire::encode(message);
        wire::ToMaster read;
        if (!wire::decode(std::span(bytes).subspan(sizeof(std::uint32_t)), read)) return;
        feed(Received{conn.id, std::move(read)});
    }
    Conn *find(ConnId id) {
        for (auto *all : {&honest_, &crowd_}) {
            for (Conn &conn : *all) {
                if (conn.id == id) return &conn;
            }
        }
        return nullptr;
    }
    void feed(const MasterInput &input) {
        MasterEffects effects;
        master_.step(now_, input, effects);
        std::vector<std::pair<ConnId, wire::LinkReport>> reports;
        for (auto &effect : effects) {
            if (const auto *close = std::get_if<CloseConnection>(&effect)) {
                Conn *conn = find(close->conn);
                FUZZ_CHECK(conn && conn->open && conn >= crowd_.data() && conn < crowd_.data() + crowd_.size());
                conn->open = false;
            }
            auto *sent = std::get_if<SendToPeer>(&effect);
            if (!sent) continue;
            Conn *conn = find(sent->conn);
            FUZZ_CHECK(conn && conn->open);
            const wire::Bytes bytes = wire::encode(sent->message);
            wire::ToPeer read;
            FUZZ_CHECK(bytes.size() <= wire::kMaxControlBytes &&
                       wire::decode(std::span(bytes).subspan(sizeof(std::uint32_t)), read));
            conn->knows.receive(read);
            const bool honest = conn >= honest_.data() && conn < honest_.data() + honest_.size();
            if (!honest || ending_) continue;
            FUZZ_CHECK(!std::holds_alternative<wire::Removed>(read) && !std::holds_alternative<wire::Freeze>(read));
            if (const auto *link = std::get_if<wire::OpenLink>(&read))
                reports.push_back({conn->id, {link->other, link->attempt, true, 0, ""}});
            conn->inbox.push_back(std::move(read));
        }
        for (auto &[id, report] : reports)
            send(*find(id), report);
    }

    Input &input_;
    Master master_;
    Time now_{std::chrono::seconds(1)};
    std::uint64_t next_conn_ = 1;
    std::vector<Conn> honest_ = reserved(2), crowd_ = reserved(kCrowd);
    std::uint32_t next_seq_ = 0;
    bool ending_ = false;
    std::size_t fresh_ = fuzz::heap_bytes();

    static std::vector<Conn> reserved(std::size_t count) {
        std::vector<Conn> conns;
        conns.reserve(count);
        return conns;
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    Input input(data, size);
    Scene(input).run();
    return 0;
}
