// A peer's data plane for its fuzzer and for tests of invalid frames: real links, engine, state transfer, prober and messages.
// Two remote peers are the other ends of socket pairs. The fuzzer or test chooses the frames of the remotes; the bytes wait in an
// outbox until they are delivered.
#pragma once

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "input.h"
#include "kernel/hash.h"
#include "peer/engine.h"
#include "peer/link_table.h"
#include "peer/message_transfer.h"
#include "peer/prober.h"
#include "peer/state_transfer.h"

namespace pccl::fuzz {

using namespace pccl::peer;
using wire::FrameHeader;
using wire::FrameKind;

inline constexpr Secret kRun{1}, kToken{2};
inline constexpr PeerId kSelf{1};

/// The far end of one lane.
struct Remote {
    PeerId peer;
    int fd = -1;
    std::string outbox;
    std::string inbox;
};

class LinkScene : LinkOwner, EngineHost, StateTransferHost, ProberHost {
public:
    LinkScene()
        : links(io, *this, options), engine(*this, links), transfer(*this, links), prober(*this, links), messages(links, office) {
        for (FrameConsumer *consumer : std::initializer_list<FrameConsumer *>{&engine, &transfer, &prober, &messages}) {
            links.add_consumer(*consumer);
        }
        links.set_identity(kRun, kSelf, std::chrono::seconds(10));
        office.open();
    }
    ~LinkScene() override {
        for (Remote &remote : remotes)
            if (remote.fd >= 0) ::close(remote.fd);
    }

    static bool receives(const FrameConsumer &consumer, FrameKind kind) {
        const auto kinds = consumer.kinds();
        return std::ranges::find(kinds, kind) != kinds.end();
    }
    void turn() {
        io.restart();
        while (io.poll() > 0) {
        }
    }
    void expect_link(PeerId other) {
        wire::OpenLink how;
        how.other = other;
        how.attempt = ++attempts[other];
        how.token = kToken;
        links.make(how);
    }
    /// The peer has left the run.
    void lose(PeerId other) {
        links.drop(other);
        messages.peer_gone(other);
    }
    Remote &connect(PeerId other) {
        int pair[2];
        FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
        asio::ip::tcp::socket socket(io);
        socket.assign(asio::ip::tcp::v4(), pair[0]);
        links.take(std::move(socket));
        return remotes.emplace_back(Remote{other, pair[1], {}, {}});
    }
    void greet(Remote &remote, std::uint32_t attempt, PeerId from) {
        wire::Bytes payload;
        wire::Writer write(payload);
        write(wire::LinkHello{kRun, from, kSelf, attempt, kToken});
        FrameHeader header;
        header.kind = FrameKind::link_hello;
        send(remote, header, {reinterpret_cast<const char *>(payload.data()), payload.size()});
    }
    /// Fills in the length and the checksums, to which `damage` and `header_damage` are added.
    static void send(Remote &remote, FrameHeader header, const std::string &payload, std::uint64_t damage = 0,
                     std::uint64_t header_damage = 0) {
        header.bytes = static_cast<std::uint32_t>(payload.size());
        header.checksum = kernel::checksum(payload.data(), payload.size()) + damage;
        header.header_checksum = kernel::checksum(&header, wire::kHeaderChecked) + header_damage;
        remote.outbox.append(reinterpret_cast<const char *>(&header), sizeof header);
        remote.outbox += payload;
    }
    /// Delivers up to `most` bytes of the outbox. If the peer has closed the connection, the remaining bytes are dropped.
    void deliver(Remote &remote, std::size_t most) {
        while (most > 0 && !remote.outbox.empty() && remote.fd >= 0) {
            const ssize_t sent = ::send(remote.fd, remote.outbox.data(), std::min(most, remote.outbox.size()), MSG_NOSIGNAL);
            if (sent > 0) {
                remote.outbox.erase(0, static_cast<std::size_t>(sent));
                most -= static_cast<std::size_t>(sent);
            }
            const std::size_t before = remote.outbox.size();
            turn();
            receive(remote);
            if (sent <= 0 && ::send(remote.fd, nullptr, 0, MSG_NOSIGNAL) < 0) remote.outbox.clear();
            if (sent <= 0 && remote.outbox.size() == before && ++stuck_ % 4 == 0) return;  // the peer has stopped reading
        }
        turn();
    }
    /// Reads the bytes that the peer sent on this lane.
    void receive(Remote &remote) {
        std::array<char, 65536> buffer;
        for (ssize_t got; remote.fd >= 0 && (got = ::recv(remote.fd, buffer.data(), buffer.size(), 0)) > 0;) {
            remote.inbox.append(buffer.data(), static_cast<std::size_t>(got));
            turn();
        }
    }
    /// The next whole frame of the peer. Checks that it is one that a peer accepts.
    bool next_frame(Remote &remote, FrameHeader &header, std::string &payload) {
        if (remote.inbox.size() < sizeof header) return false;
        std::memcpy(&header, remote.inbox.data(), sizeof header);
        FUZZ_CHECK(header.magic == wire::kFrameMagic && static_cast<int>(header.kind) < wire::kFrameKinds);
        FUZZ_CHECK(header.header_checksum == kernel::checksum(&header, wire::kHeaderChecked) &&
                   header.bytes <= wire::kMaxChunkBytes);
        if (remote.inbox.size() < sizeof header + header.bytes) return false;
        payload = remote.inbox.substr(sizeof header, header.bytes);
        remote.inbox.erase(0, sizeof header + header.bytes);
        return true;
    }
    static void close(Remote &remote) {
        if (remote.fd >= 0) ::close(remote.fd);
        remote.fd = -1;
        remote.outbox.clear();
        remote.inbox.clear();
    }

    asio::io_context io{1};
    Options options;
    LinkTable links;
    Engine engine;
    StateTransfer transfer;
    Prober prober;
    PostOffice office;
    MessageTransfer messages;
    std::map<PeerId, std::uint32_t> attempts;
    std::deque<Remote> remotes;

    std::vector<OpId> broken, finished;
    std::vector<wire::OpFault> own_faults;
    std::vector<std::string> spoiled;                      ///< tensors reported as changed by the program
    std::map<PeerId, std::vector<std::string>> downs;      ///< reasons for which links ended
    std::optional<std::pair<std::uint64_t, bool>> pulled;  ///< the sync that ended last, and whether it succeeded

private:
    void on_link_up(Link &) override {}
    void on_link_down(Link &link, const std::string &why) override { downs[link.other()].push_back(why); }
    void op_finished(const OpId &op) override { finished.push_back(op); }
    void op_broken(const OpId &op, pcclResult_t code, const std::string &why, bool own) override {
        broken.push_back(op);
        if (own) own_faults.push_back({op, code, why});
    }
    void state_pulled(std::uint64_t sync, bool ok, const std::string &) override {
        if (!pulled) pulled = {sync, ok};
    }
    void offer_spoiled(std::uint64_t, const std::string &tensor, const char *) override { spoiled.push_back(tensor); }
    void probe_finished(std::uint64_t, PeerId, double) override {}

    std::size_t stuck_ = 0;
};

}  // namespace pccl::fuzz
