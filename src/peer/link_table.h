// All links of a peer, and its one listening port. I/O thread only.
//
// A connection from outside is a stranger until its first frame, a LinkHello with the token that the master gave for this very link: until
// then it may send 192 bytes, wait for a limited time, and be one of a limited number. A hello that comes before the master's word about
// it waits for that word.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include "base/log_quota.h"
#include "base/result.h"
#include "peer/link.h"
#include "peer/options.h"

namespace pccl::peer {

class LinkTable final : public LaneHandler {
public:
    LinkTable(asio::io_context &io, LinkOwner &owner, const Options &options);
    ~LinkTable() override;

    /// Opens the listening port: the first free one of the range. Error: pcclInvalidArgument / pcclRankConnectionFailed in words.
    Status listen();
    std::uint16_t port() const { return port_; }

    /// Of this membership. `dead_after`: as Link's.
    void set_identity(const Secret &run, PeerId self, Duration dead_after);
    /// The interface through which link-local addresses of others are dialled, unless listen_address names one; 0: unknown.
    void set_zone(std::uint32_t zone) { zone_ = zone; }
    /// A connection from outside: a stranger for now.
    void take(asio::ip::tcp::socket socket);
    void make(const wire::OpenLink &how);
    void drop(PeerId other);
    void drop_all();
    /// After something was thrown in here, with all links dropped: listens and sweeps again. Strangers go.
    void start_over();

    /// Null if there is none, or it is not up.
    Link *up(PeerId other);
    template <class F>
    void for_each(F &&f) {
        for (auto &[id, link] : links_) f(*link);
    }
    /// Called by the owner when a link reported that it is down.
    void forget(const Link &link);

private:
    struct Stranger {
        std::shared_ptr<Lane> lane;
        Time since;
        std::optional<wire::LinkHello> hello;  ///< said, but nothing is known of it yet
        Buffer payload;
    };

    Intake on_header(Lane &lane, const wire::FrameHeader &header) override;
    bool on_frame(Lane &lane, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    bool next_frame(Lane &, OutFrame &) override { return false; }
    void on_lane_down(Lane &lane, const std::string &why) override;

    Status bind(asio::ip::tcp::acceptor &acceptor, const asio::ip::tcp::endpoint &endpoint);
    void accept();
    int accept_some();
    void sweep();
    bool introduce(std::list<Stranger>::iterator stranger);
    void complain(const Lane &stranger, const char *why);
    std::list<Stranger>::iterator find(const Lane &lane);

    asio::io_context &io_;
    LinkOwner &owner_;
    const Options &options_;
    asio::ip::tcp::acceptor acceptor_;
    asio::steady_timer sweeper_;
    bool accepting_ = false;
    std::uint16_t port_ = 0;
    std::uint32_t zone_ = 0;
    std::uint32_t listen_zone_ = 0;
    Secret run_{};
    PeerId self_;
    Duration dead_after_ = std::chrono::seconds(10);
    std::map<PeerId, std::shared_ptr<Link>> links_;
    std::list<Stranger> strangers_;  ///< oldest first
    LogQuota complaints_;
};

}  // namespace pccl::peer
