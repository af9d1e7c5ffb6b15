// See link_table.h.
#include "peer/link_table.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <asio/ip/v6_only.hpp>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/port_holder.h"
#include "peer/endpoint.h"
#include "peer/tcp_tuning.h"

namespace pccl::peer {

using wire::FrameHeader;
using wire::FrameKind;

namespace {

constexpr std::size_t kMaxPending = 512;
constexpr int kAcceptsAtOnce = 64;

/// Compares in constant time.
bool same_secret(const Secret &a, const Secret &b) {
    std::uint8_t difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

}  // namespace

LinkTable::LinkTable(asio::io_context &io, LinkOwner &owner, const Options &options)
    : io_(io), owner_(owner), options_(options), acceptor_(io), sweeper_(io) {}

LinkTable::~LinkTable() {
    drop_all();
    for (auto &pending : pending_)
        pending.lane->close();
}

Status LinkTable::bind(asio::ip::tcp::acceptor &acceptor, const asio::ip::tcp::endpoint &endpoint) {
    const bool v6 = endpoint.protocol() == asio::ip::tcp::v6();
    Fd fd = open_stream(v6);
    if (!fd) return Error{pcclRankConnectionFailed, std::strerror(errno)};
    asio::error_code error;
    acceptor.assign(endpoint.protocol(), fd.get(), error);
    if (error) return Error{pcclRankConnectionFailed, error.message()};
    fd.release();
    // The port can be used while connections of an earlier process on it are in TIME_WAIT.
    acceptor.set_option(asio::socket_base::reuse_address(true), error);
    if (!error && v6) acceptor.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), error);
    if (!error) tune_before_connecting(acceptor.native_handle(), options_.congestion_control);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(1024, error);
    if (!error) return {};
    asio::error_code ignored;
    acceptor.close(ignored);
    return Error{pcclRankConnectionFailed, error.message()};
}

Status LinkTable::listen() {
    if (!options_.congestion_control.empty()) {
        if (auto offered = check_congestion_control(options_.congestion_control); !offered) return offered;
    }
    std::vector<asio::ip::address> addresses;
    if (options_.listen_host.empty()) {
        addresses = {asio::ip::address_v6::any(), asio::ip::address_v4::any()};  // the second one for systems without IPv6
    } else {
        const auto ip = parse_ip(options_.listen_host);
        if (!ip) return Error{pcclInvalidArgument, "listen_address: " + ip.error().what};
        listen_zone_ = ip->zone;
        addresses = {to_endpoint({*ip, 0}).address()};
    }
    std::string last;
    for (std::uint32_t port = options_.port_first; port <= options_.port_last; ++port) {
        for (const auto &address : addresses) {
            const auto bound = bind(acceptor_, {address, static_cast<std::uint16_t>(port)});
            if (!bound) {
                last = bound.error().what;
                continue;
            }
            port_ = acceptor_.local_endpoint().port();
            accept();
            sweep();
            return {};
        }
    }
    const std::string holder = port_holder(options_.port_first);
    return Error{pcclRankConnectionFailed,
                 "cannot listen on any port from " + std::to_string(options_.port_first) + " to " +
                     std::to_string(options_.port_last) + ": " + last +
                     (holder.empty() ? "" : " (port " + std::to_string(options_.port_first) + ": " + holder + ")")};
}

void LinkTable::accept() {
    accepting_ = true;
    acceptor_.async_wait(asio::ip::tcp::acceptor::wait_read, [this](const asio::error_code &error) {
        if (error == asio::error::operation_aborted) return;
        const int failed = error ? error.value() : accept_some();
        if (failed == 0) return accept();
        // Most likely out of descriptors. Existing connections are not affected. The next sweep() accepts again.
        accepting_ = false;
        if (refusals_.admit(monotonic_now()))
            PCCL_LOG_WARN("cannot accept connections at present: %s. Retrying every second", std::strerror(failed));
    });
}

/// Accepts a limited number of connections. Returns 0, or the errno that prevents accepting.
int LinkTable::accept_some() {
    asio::error_code error;
    const auto protocol = acceptor_.local_endpoint(error).protocol();
    for (int i = 0; i < kAcceptsAtOnce; ++i) {
        Fd fd = accept_stream(acceptor_.native_handle());
        if (!fd) {
            switch (errno) {
            case EAGAIN: return 0;
            case EBADF:
            case EINVAL:
            case EMFILE:
            case ENFILE:
            case ENOBUFS:
            case ENOMEM: return errno;
            default: continue;  // the connection has ended already
            }
        }
        asio::ip::tcp::socket socket(io_);
        socket.assign(protocol, fd.get(), error);
        if (error) continue;
        fd.release();
        take(std::move(socket));
    }
    return 0;
}

void LinkTable::take(asio::ip::tcp::socket socket) {
    if (pending_.size() >= kMaxPending) {
        pending_.front().lane->close();
        pending_.pop_front();
    }
    const Duration round_trip = tune_connected(socket.native_handle(), options_.congestion_control);
    auto lane = std::make_shared<Lane>(std::move(socket), round_trip, *this);
    pending_.push_back({lane, monotonic_now(), std::nullopt, nullptr});
    lane->start();
}

/// Every second: closes connections that have not sent a hello in time.
void LinkTable::sweep() {
    sweeper_.expires_after(std::chrono::seconds(1));
    sweeper_.async_wait([this](const asio::error_code &error) {
        if (error) return;
        const Time now = monotonic_now();
        while (!pending_.empty() && now - pending_.front().since > wire::kHelloTimeout) {
            PCCL_LOG_INFO("connection from %s closed: no hello within %s", pending_.front().lane->remote().c_str(),
                          to_string(wire::kHelloTimeout).c_str());
            pending_.front().lane->close();
            pending_.pop_front();
        }
        if (const auto more = refusals_.take_unlogged(now))
            PCCL_LOG_WARN("%llu more connections were refused in the last minutes", static_cast<unsigned long long>(more));
        if (!accepting_) accept();
        sweep();
    });
}

/// Warnings are limited, because anyone can open thousands of connections.
void LinkTable::log_refusal(const Lane &lane, const char *why) {
    if (refusals_.admit(monotonic_now()))
        PCCL_LOG_WARN("connection from %s refused: %s", lane.remote().c_str(), why);
    else
        PCCL_LOG_DEBUG("connection from %s refused: %s", lane.remote().c_str(), why);
}

void LinkTable::set_identity(const Secret &run, PeerId self, Duration dead_after) {
    run_ = run;
    self_ = self;
    dead_after_ = dead_after;
}

void LinkTable::make(const wire::OpenLink &how) {
    drop(how.other);
    const PeerId from = how.dial ? self_ : how.other, to = how.dial ? how.other : self_;
    const wire::LinkHello hello{run_, from, to, how.attempt, how.token};
    wire::OpenLink local = how;
    if (local.address.ip.link_local()) local.address.ip.zone = listen_zone_ != 0 ? listen_zone_ : zone_;
    const auto link =
        std::make_shared<Link>(io_, static_cast<LinkOwner &>(*this), consumers_, local, hello, options_, dead_after_);
    links_[how.other] = link;
    if (how.dial) return link->dial();
    for (auto it = pending_.begin(); it != pending_.end();) {
        const auto current = it++;
        if (current->hello) assign(current);
    }
}

void LinkTable::drop(PeerId other) {
    if (const auto found = links_.find(other); found != links_.end()) {
        found->second->close();
        links_.erase(found);
    }
    for (FrameConsumer *consumer : consumers_)
        consumer->link_down(other);
}

void LinkTable::drop_all() {
    for (auto &[id, link] : links_)
        link->close();
    links_.clear();
}

Link *LinkTable::up(PeerId other) {
    const auto found = links_.find(other);
    return found != links_.end() && found->second->up() ? found->second.get() : nullptr;
}

void LinkTable::start_over() {
    for (auto &pending : pending_)
        pending.lane->close();
    pending_.clear();
    if (!acceptor_.is_open()) return;
    asio::error_code ignored;
    acceptor_.cancel(ignored);
    sweeper_.cancel();
    accept();
    sweep();
}

void LinkTable::clear(const Error &why) {
    drop_all();
    for (FrameConsumer *consumer : consumers_)
        consumer->clear(why);
}

void LinkTable::tick(Time now, std::optional<Time> master_up_since) {
    for (auto &[id, link] : links_) {
        link->tick(now);
        if (master_up_since) link->check_held(now, *master_up_since);
    }
    for (FrameConsumer *consumer : consumers_)
        consumer->tick(now);
}

void LinkTable::on_link_up(Link &link) {
    owner_.on_link_up(link);
    for (FrameConsumer *consumer : consumers_)
        consumer->link_up(link);
}

void LinkTable::on_link_down(Link &link, const std::string &why) {
    const PeerId other = link.other();
    if (const auto found = links_.find(other); found != links_.end() && found->second.get() == &link) links_.erase(found);
    for (FrameConsumer *consumer : consumers_)
        consumer->link_down(other);
    owner_.on_link_down(link, why);
}

std::list<LinkTable::Pending>::iterator LinkTable::find(const Lane &lane) {
    return std::ranges::find_if(pending_, [&](const Pending &p) { return p.lane.get() == &lane; });
}

Intake LinkTable::on_header(Lane &lane, const FrameHeader &header) {
    const auto pending = find(lane);
    if (pending == pending_.end()) return Intake::reject("a connection that was closed");
    if (pending->hello) return Intake::hold();
    if (header.kind != FrameKind::link_hello || header.bytes > wire::kMaxLinkHelloBytes) {
        return Intake::reject("a first frame that is not a link_hello");
    }
    pending->payload = Buffer(new std::byte[header.bytes]);
    return {Intake::Action::take, pending->payload.get(), pending->payload, nullptr, ""};
}

bool LinkTable::on_frame(Lane &lane, const FrameHeader &header, std::byte *payload, const Buffer &) {
    const auto pending = find(lane);
    if (pending == pending_.end()) return true;
    wire::LinkHello hello;
    wire::Reader read(std::span(payload, header.bytes));
    read(hello);
    if (!read.finished()) {
        log_refusal(lane, "a malformed hello");
        lane.close();
        pending_.erase(pending);
        return true;
    }
    pending->hello = hello;
    assign(pending);
    return true;
}

/// Gives a connection whose hello has arrived to its link. False: it waits for the master's OpenLink, or it was refused.
bool LinkTable::assign(std::list<Pending>::iterator pending) {
    const auto &hello = *pending->hello;
    const auto found = links_.find(hello.from);
    if (found == links_.end() || hello.attempt > found->second->attempt()) {
        if (hello.run == run_ && hello.to == self_) return false;  // the master's OpenLink may still arrive
        log_refusal(*pending->lane, "its hello names another peer or another run");
    } else if (hello.attempt < found->second->attempt() || found->second->dials()) {
        log_refusal(*pending->lane, "the master has not ordered this side to dial");
    } else if (hello.run != run_ || hello.to != self_ || !same_secret(hello.token, found->second->hello().token)) {
        log_refusal(*pending->lane, "its hello has the wrong token");
    } else {
        const auto lane = pending->lane;
        const auto link = found->second;
        pending_.erase(pending);
        link->adopt(lane);
        return true;
    }
    pending->lane->close();
    pending_.erase(pending);
    return false;
}

void LinkTable::on_lane_down(Lane &lane, const std::string &why) {
    const auto pending = find(lane);
    if (pending == pending_.end()) return;
    PCCL_LOG_INFO("connection from %s closed: %s", lane.remote().c_str(), why.c_str());
    pending_.erase(pending);
}

}  // namespace pccl::peer
