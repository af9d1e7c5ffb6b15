// The master's table of connections, in order of arrival. It chooses the connection to close when the table is full.
//
// Guarantee: to make room, connections that are ending anyway are closed first, then the oldest one that has not sent Hello, and
// never a peer. Runs on the loop's thread.
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
    /// nullptr: it is closed.
    Connection *find(protocol::ConnId id) const;
    void welcome(Connection &connection, std::size_t output_limit);
    /// The connection ends when its output is sent, at `deadline` at the latest.
    void drain(Connection &connection, Time deadline);
    void close(Connection &connection);
    void close_all();

    /// The connection to close first; nullptr if all are peers.
    Connection *least_needed() const;
    /// The deadline of the next draining connection. Deadlines must be passed to drain() in ascending order.
    std::optional<Time> next_deadline() const;
    /// Closes the draining connections whose deadline has passed.
    void close_overdue(Time now);

private:
    struct Draining {
        Time deadline;
        protocol::ConnId id;
    };

    const std::size_t limit_;
    std::map<protocol::ConnId, Connection *> all_;  ///< each exists until its close()
    std::set<protocol::ConnId> before_hello_;
    std::deque<Draining> draining_;  ///< may name closed connections
};

}  // namespace pccl::master
