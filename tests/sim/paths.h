// What is wrong with the paths that data take between nodes. A path has a direction; the other one may be well.
//
// TCP needs both: a connection is made only if packets pass both ways, and whoever sends over one of which either direction is bad hears
// no acknowledgement. A path may also swallow large packets alone, so that connections are made over it and carry nothing.
#pragma once

#include <cstddef>
#include <map>
#include <utility>

#include "base/time.h"

namespace pccl::sim {

class Paths {
public:
    enum class Loss { none, bulk, all };
    static constexpr Time kNever{Duration::max()};  ///< when it heals

    /// A path that is bad already stays so at least as long.
    void lose(std::size_t from, std::size_t to, Loss what, Time now, Time until);

    Loss loss(std::size_t from, std::size_t to, Time now) const;
    bool carries(std::size_t from, std::size_t to, Time now) const { return loss(from, to, now) == Loss::none; }
    Time heals(std::size_t from, std::size_t to) const { return paths_.at({from, to}).until; }
    /// In both directions.
    bool well(std::size_t a, std::size_t b, Time now) const { return carries(a, b, now) && carries(b, a, now); }
    bool connects(std::size_t a, std::size_t b, Time now) const { return loss(a, b, now) != Loss::all && loss(b, a, now) != Loss::all; }
    /// It is bad, or was so at some time after that.
    bool bad_within(std::size_t from, std::size_t to, Time since) const {
        const auto found = paths_.find({from, to});
        return found != paths_.end() && found->second.until > since;
    }
    /// One direction has been bad ever since.
    bool bad_since(std::size_t a, std::size_t b, Time since, Time now) const;

private:
    struct Path {
        Loss loss = Loss::none;
        Time since, until;
    };
    const Path *bad(std::size_t from, std::size_t to, Time now) const;

    std::map<std::pair<std::size_t, std::size_t>, Path> paths_;
};

}  // namespace pccl::sim
