// See callers.h.
#include "master/callers.h"

namespace pccl::master {

void Callers::add(Connection *connection) {
    all_[connection->id()] = connection;
    before_hello_.insert(connection->id());
}

Connection *Callers::find(protocol::ConnId id) const {
    const auto found = all_.find(id);
    return found == all_.end() ? nullptr : found->second;
}

void Callers::welcome(Connection &connection, std::size_t output_limit) {
    before_hello_.erase(connection.id());
    connection.welcome(output_limit);
}

void Callers::drain(Connection &connection, Time deadline) {
    before_hello_.erase(connection.id());
    draining_.push_back({deadline, connection.id()});
    connection.drain();
}

void Callers::close(Connection &connection) {
    before_hello_.erase(connection.id());
    all_.erase(connection.id());
    connection.close();
}

void Callers::close_all() {
    while (!all_.empty())
        close(*all_.begin()->second);
}

Connection *Callers::least_needed() const {
    for (const Draining &draining : draining_) {
        if (Connection *connection = find(draining.id)) return connection;
    }
    return before_hello_.empty() ? nullptr : find(*before_hello_.begin());
}

std::optional<Time> Callers::next_deadline() const {
    if (draining_.empty()) return std::nullopt;
    return draining_.front().deadline;
}

void Callers::close_overdue(Time now) {
    while (!draining_.empty() && draining_.front().deadline <= now) {
        Connection *connection = find(draining_.front().id);
        draining_.pop_front();
        if (connection) close(*connection);
    }
}

}  // namespace pccl::master
