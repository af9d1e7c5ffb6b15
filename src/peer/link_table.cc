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

constexpr std::size_t kMaxStrangers = 512;
constexpr int kAcceptsAtOnce = 64;

/// Equal in time that does not depend on where they differ.
bool same_secret(const Secret &a, const Secret &b) {
    std::uint8_t difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i) difference |= a[i] ^ b[i];
    return difference == 0;
}

}  // namespace

LinkTable::LinkTable(asio::io_context &io, LinkOwner &owner, const Options &options)
    : io_(io), owner_(owner), options_(options), acceptor_(io), sweeper_(io) {}

LinkTable::~LinkTable() {
    drop_all();
    for (auto &stranger : strangers_) stranger.lane->close();
}

Status LinkTable::bind(asio::ip::tcp::acceptor &acceptor, const asio::ip::tcp::endpoint &endpoint) {
    const bool v6 = endpoint.protocol() == asio::ip::tcp::v6();
    Fd fd = open_stream(v6);
    if (!fd) return Error{pcclRankConnectionFailed, std::strerror(errno)};
    asio::error_code error;
    acceptor.assign(endpoint.protocol(), fd.get(), error);
    if (error) return Error{pcclRankConnectionFailed, error.message()};
    fd.release();
    // Connections of a process that has ended do not keep its port from the next one.
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
        addresses = {asio::ip::address_v6::any(), asio::ip::address_v4::any()};  // the second where there is no IPv6
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
                 "no port from " + std::to_string(options_.port_first) + " to " + std::to_string(options_.port_last) +
                     " can be listened on: " + last +
                     (holder.empty() ? "" : " (port " + std::to_string(options_.port_first) + ": " + holder + ")")};
}

void LinkTable::accept() {
    accepting_ = true;
    acceptor_.async_wait(asio::ip::tcp::acceptor::wait_read, [this](const asio::error_code &error) {
        if (error == asio::error::operation_aborted) return;
        const int failed = error ? error.value() : accept_some();
        if (failed == 0) return accept();
        // Out of descriptors, most likely. The connections that exist are not affected; the next sweep tries to accept again.
        accepting_ = false;
        if (complaints_.admit(monotonic_now()))
            PCCL_LOG_WARN("cannot accept connections for the moment: %s", std::strerror(failed));
    });
}

/// Takes the connections that wait, a limited number of them. Returns why no more can be taken (an errno), or 0.
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
            default: continue;  // this caller has gone again
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
    if (strangers_.size() >= kMaxStrangers) {
        strangers_.front().lane->close();
        strangers_.pop_front();
    }
    const Duration round_trip = tune_connected(socket.native_handle(), options_.congestion_control);
    auto lane = std::make_shared<Lane>(std::move(socket), round_trip, *this);
    strangers_.push_back({lane, monotonic_now(), std::nullopt, nullptr});
    lane->start();
}

/// Once a second: strangers whose time is up go.
void LinkTable::sweep() {
    sweeper_.expires_after(std::chrono::seconds(1));
    sweeper_.async_wait([this](const asio::error_code &error) {
        if (error) return;
        const Time now = monotonic_now();
        while (!strangers_.empty() && now - strangers_.front().since > wire::kHelloTimeout) {
            PCCL_LOG_INFO("connection from %s closed: no hello in time", strangers_.front().lane->remote().c_str());
            strangers_.front().lane->close();
            strangers_.pop_front();
        }
        if (const auto more = complaints_.take_unlogged(now))
            PCCL_LOG_WARN("%llu more connections were refused in the last minutes", static_cast<unsigned long long>(more));
        if (!accepting_) accept();
        sweep();
    });
}

/// Strangers may come by the thousand: what they do must not fill the log.
void LinkTable::complain(const Lane &stranger, const char *why) {
    if (complaints_.admit(monotonic_now())) PCCL_LOG_WARN("connection from %s refused: %s", stranger.remote().c_str(), why);
    else PCCL_LOG_DEBUG("connection from %s refused: %s", stranger.remote().c_str(), why);
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
    const auto link = std::make_shared<Link>(io_, owner_, local, hello, options_, dead_after_);
    links_[how.other] = link;
    if (how.dial) return link->dial();
    for (auto it = strangers_.begin(); it != strangers_.end();) {
        const auto current = it++;
        if (current->hello) introduce(current);
    }
}

void LinkTable::drop(PeerId other) {
    const auto found = links_.find(other);
    if (found == links_.end()) return;
    found->second->close();
    links_.erase(found);
}

void LinkTable::drop_all() {
    for (auto &[id, link] : links_) link->close();
    links_.clear();
}

Link *LinkTable::up(PeerId other) {
    const auto found = links_.find(other);
    return found != links_.end() && found->second->up() ? found->second.get() : nullptr;
}

void LinkTable::start_over() {
    for (auto &stranger : strangers_) stranger.lane->close();
    strangers_.clear();
    if (!acceptor_.is_open()) return;
    asio::error_code ignored;
    acceptor_.cancel(ignored);
    sweeper_.cancel();
    accept();
    sweep();
}

void LinkTable::forget(const Link &link) {
    const auto found = links_.find(link.other());
    if (found != links_.end() && found->second.get() == &link) links_.erase(found);
}

std::list<LinkTable::Stranger>::iterator LinkTable::find(const Lane &lane) {
    return std::ranges::find_if(strangers_, [&](const Stranger &s) { return s.lane.get() == &lane; });
}

Intake LinkTable::on_header(Lane &lane, const FrameHeader &header) {
    const auto stranger = find(lane);
    if (stranger == strangers_.end()) return Intake::reject("unknown");
    if (stranger->hello) return Intake::hold();
    if (header.kind != FrameKind::link_hello || header.bytes > wire::kMaxLinkHelloBytes) {
        return Intake::reject("a first frame that is no hello");
    }
    stranger->payload = Buffer(new std::byte[header.bytes]);
    return {Intake::Action::take, stranger->payload.get(), stranger->payload, nullptr, ""};
}

bool LinkTable::on_frame(Lane &lane, const FrameHeader &header, std::byte *payload, const Buffer &) {
    const auto stranger = find(lane);
    if (stranger == strangers_.end()) return true;
    wire::LinkHello hello;
    wire::Reader read(std::span(payload, header.bytes));
    read(hello);
    if (!read.finished()) {
        complain(lane, "a malformed hello");
        lane.close();
        strangers_.erase(stranger);
        return true;
    }
    stranger->hello = hello;
    introduce(stranger);
    return true;
}

/// Gives a stranger that has said hello to the link it means. False: it stays, or it was refused.
bool LinkTable::introduce(std::list<Stranger>::iterator stranger) {
    const auto &hello = *stranger->hello;
    const auto found = links_.find(hello.from);
    if (found == links_.end() || hello.attempt > found->second->attempt()) {
        if (hello.run == run_ && hello.to == self_) return false;  // the master's word may be on its way
        complain(*stranger->lane, "it means another peer or another run");
    } else if (hello.attempt < found->second->attempt() || found->second->dials()) {
        complain(*stranger->lane, "it is not the one that the master told to dial");
    } else if (hello.run != run_ || hello.to != self_ || !same_secret(hello.token, found->second->hello().token)) {
        complain(*stranger->lane, "it does not know the secret of the link it asks for");
    } else {
        const auto lane = stranger->lane;
        const auto link = found->second;
        strangers_.erase(stranger);
        link->adopt(lane);
        return true;
    }
    stranger->lane->close();
    strangers_.erase(stranger);
    return false;
}

void LinkTable::on_lane_down(Lane &lane, const std::string &why) {
    const auto stranger = find(lane);
    if (stranger == strangers_.end()) return;
    PCCL_LOG_INFO("connection from %s closed: %s", lane.remote().c_str(), why.c_str());
    strangers_.erase(stranger);
}

}  // namespace pccl::peer
