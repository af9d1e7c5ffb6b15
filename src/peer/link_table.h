// All links of a peer, and its one listening port. I/O thread only.
//
// An accepted connection is unauthenticated until its first frame, a LinkHello with the token that the master issued for this
// link. Until then it may send 192 bytes, within a limited time, and the number of such connections is limited. A hello that
// arrives before the master's OpenLink waits for it.
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
#include "peer/frame_consumer.h"
#include "peer/link.h"
#include "peer/options.h"

namespace pccl::peer {

class LinkTable final : public LaneHandler, LinkOwner {
public:
    /// `owner` learns of links that came up, before the consumers do, and of links that went down, after them.
    LinkTable(asio::io_context &io, LinkOwner &owner, const Options &options);
    ~LinkTable() override;

    /// All consumers must be added before the first link is made, and must live as long as the table.
    void add_consumer(FrameConsumer &consumer) { consumers_.add(consumer); }

    /// Opens the listening port: the first free one of the range. Error: pcclInvalidArgument or pcclRankConnectionFailed.
    Status listen();
    std::uint16_t port() const { return port_; }

    /// Sets the identity for this membership. `dead_after`: see Link.
    void set_identity(const Secret &run, PeerId self, Duration dead_after);
    /// Sets the interface through which other peers' link-local addresses are dialled, unless listen_address names one; 0:
    /// unknown.
    void set_zone(std::uint32_t zone) { zone_ = zone; }
    /// Adds an accepted, unauthenticated connection.
    void take(asio::ip::tcp::socket socket);
    /// Replaces the link to that peer, if there is one.
    void make(const wire::OpenLink &how);
    /// Closes the link to that peer, if there is one. The consumers' link_down() is called in any case.
    void drop(PeerId other);
    /// Closes all links. The consumers are not called.
    void drop_all();
    /// Closes all links, and clears all consumers. May be repeated from the start if it throws.
    void clear(const Error &why);
    /// Every 25 milliseconds. `master_up_since`: when the control connection came up, if it is up. Frames that wait for a future
    /// view are given up only while it is.
    void tick(Time now, std::optional<Time> master_up_since);
    /// After clear(), if this object threw: closes the unauthenticated connections, and restarts accepting and the timer.
    void start_over();

    /// The link to that peer; null if there is none, or it is not up.
    Link *up(PeerId other);
    template <class F> void for_each(F &&f) {
        for (auto &[id, link] : links_)
            f(*link);
    }

private:
    /// An unauthenticated connection.
    struct Pending {
        std::shared_ptr<Lane> lane;
        Time since;
        std::optional<wire::LinkHello> hello;  ///< arrived before the master's OpenLink
        Buffer payload;
    };

    Intake on_header(Lane &lane, const wire::FrameHeader &header) override;
    bool on_frame(Lane &lane, const wire::FrameHeader &header, std::byte *payload, const Buffer &keep) override;
    bool next_frame(Lane &, OutFrame &) override { return false; }
    void on_lane_down(Lane &lane, const std::string &why) override;
    void on_link_up(Link &link) override;
    void on_link_down(Link &link, const std::string &why) override;

    Status bind(asio::ip::tcp::acceptor &acceptor, const asio::ip::tcp::endpoint &endpoint);
    void accept();
    int accept_some();
    void sweep();
    bool assign(std::list<Pending>::iterator pending);
    void log_refusal(const Lane &pending, const char *why);
    std::list<Pending>::iterator find(const Lane &lane);

    asio::io_context &io_;
    LinkOwner &owner_;
    const Options &options_;
    FrameConsumers consumers_;
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
    std::list<Pending> pending_;  ///< oldest first
    LogQuota refusals_;
};

}  // namespace pccl::peer
