// The master's table of connections: who is connected, in order of arrival, and whom to close for want of room.
//
// Guarantee: room for a new caller is made of connections that are ending anyway, then of the stranger that has been here
// longest, never of a peer. Runs on the loop's thread.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>

#include "base/time.h"
#include "master/connection.h"

namespace pccl::master {

class Callers {
public:
    explicit Callers(std::size_t limit) : limit_(limit) {}
    Callers(const Callers &) = delete;
    Callers &operator=(const Callers &) = delete;

    bool full() const { return all_.size() >= limit_; }
    std::size_t limit() const { return limit_; }

    void add(Connection *connection);
    /// nullptr if it is closed.
    Connection *find(protocol::ConnId id) const;
    void introduce(Connection &connection, std::size_t output_limit);
    /// It ends once its output has left, at `deadline` at the latest.
    void drain(Connection &connection, Time deadline);
    void close(Connection &connection);
    void close_all();

    /// Whom to close first; nullptr if all are peers.
    Connection *least_needed() const;
    /// When the next draining connection's time is up. Deadlines are given in rising order.
    std::optional<Time> next_deadline() const;
    /// Closes those whose time was up at `now`.
    void close_overdue(Time now);

private:
    struct Draining {
        Time deadline;
        protocol::ConnId id;
    };

    const std::size_t limit_;
    std::map<protocol::ConnId, Connection *> all_;  ///< each lives until its close()
    std::set<protocol::ConnId> strangers_;
    std::deque<Draining> draining_;  ///< may name closed ones
};

}  // namespace pccl::master
