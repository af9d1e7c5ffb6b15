// The master as a service: sockets, clock and log around protocol::Master.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "base/address.h"
#include "base/result.h"
#include "protocol/master.h"

namespace pccl::master {

struct ServerOptions {
    SocketAddress listen;  ///< port 0: any free one. An unspecified IPv6 address accepts IPv4 connections, too
    protocol::MasterOptions protocol;
    std::string journal;  ///< "PATH" or "new:PATH", see journal.h; "": none, and the run ends with its master
    std::size_t max_output_bytes = std::size_t{64} << 20;  ///< output that may wait for one peer; beyond it, the peer is lost
    std::size_t max_connections = 8192;  ///< with and without Hello together; fewer if the limit of open files is lower
};

/// Serves on the thread that calls run(). Several servers in one process are independent.
class Server {
public:
    /// Binds and listens; connections wait until run(). Raises this process's soft limit of open files to the hard one.
    /// Error: pcclMasterConnectionFailed with the address, the system's reason and the remedy; pcclInvalidArgument with the
    /// problem of the journal.
    static Result<std::unique_ptr<Server>> create(const ServerOptions &options);
    /// run() must have returned.
    ~Server();

    /// With the port that was bound.
    SocketAddress address() const;

    /// Serves until interrupted, then closes all sockets and returns. Call it once.
    void run();
    /// Makes run() return, or return at once if it is called later. Any thread or signal handler, any number of times.
    void interrupt();

private:
    class Service;
    explicit Server(std::unique_ptr<Service> service);
    std::unique_ptr<Service> service_;
};

}  // namespace pccl::master
