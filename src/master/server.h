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
    SocketAddress listen;  ///< port 0: any free one. An unspecified IPv6 address takes IPv4 callers, too
    protocol::MasterOptions protocol;
    std::string journal;  ///< as in journal.h: "PATH" or "new:PATH"; "": none, and a run ends with its master
    std::size_t max_output_bytes = std::size_t{64} << 20;  ///< that wait for one peer; it is lost beyond
    std::size_t max_connections = 8192;  ///< peers and strangers together; fewer where the limit of open files is lower
};

/// Serves on the thread that calls run(). Several in one process do not know of each other.
class Server {
public:
    /// Binds and listens; callers wait until run(). Raises this process's soft limit of open files to the hard one.
    /// Error: pcclMasterConnectionFailed with the address, the system's reason and what to do; pcclInvalidArgument with what is wrong
    /// with the journal.
    static Result<std::unique_ptr<Server>> create(const ServerOptions &options);
    /// Not while run() is running.
    ~Server();

    /// With the real port.
    SocketAddress address() const;

    /// Serves until interrupted, then closes all sockets and returns. Call it once.
    void run();
    /// Makes run() return, also a run() that is still to come. Any thread or signal handler, any number of times.
    void interrupt();

private:
    class Service;
    explicit Server(std::unique_ptr<Service> service);
    std::unique_ptr<Service> service_;
};

}  // namespace pccl::master
