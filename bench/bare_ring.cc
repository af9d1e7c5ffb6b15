// bare_ring measures the limit of TCP on this machine. It is a minimal ring all-reduce (float32, sum): one process per rank, one
// thread each, one connection to each neighbour. It has no membership, checksums, agreement or fault tolerance. A library's
// additional work is its overhead, and the ratio of the two times is the cost of that overhead.
//
// The buffer is cut into N blocks, and each block into slices. Each connection carries one fixed sequence: round t contains
// step s of slice t - s, for each of the 2(N-1) steps. A chunk that arrives in one round is sent in the next. Partial results
// fit in a few slots of scratch memory that stay in the cache, and no rank waits until all ranks have ended a step. A partial
// result is combined in the slot in which it arrived and sent from there. A final result is written once, directly into the
// receive buffer.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr std::size_t kWindow = 4;              // slots of scratch per step
constexpr std::size_t kLeastWrite = 64 * 1024;  // smaller pieces wait for more data, except at the end of a chunk
constexpr std::size_t kSmallestChunk = 4 * 1024;
constexpr int kTriesBeforeSleep = 100;
constexpr int kSocketBuffer = 1 << 20;  // a larger buffer would push the data in flight out of the cache
constexpr int kMostRanks = 256;

struct Options {
    int ranks = 4;
    std::size_t first = 1024, last = 64 << 20;
    double factor = 2;
    int iterations = 20;
    int warm_up = 5;
    std::size_t chunk = 256 * 1024;
    std::string congestion = "cubic";  // rate estimates and pacing of other algorithms cost time on loopback
    const char *json = nullptr;
};

struct Result {
    double time_us;
    std::uint64_t wrong;
};

void require(bool ok, const char *what) {
    if (ok) return;
    std::fprintf(stderr, "bare_ring: %s: %s\n", what, std::strerror(errno));
    std::exit(2);
}

[[gnu::target_clones("avx512f", "avx2", "default")]] void add(float *__restrict out, const float *a, const float *__restrict b,
                                                              std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        out[i] = a[i] + b[i];
}

[[gnu::target_clones("avx512f", "avx2", "default")]] void add_to(float *__restrict a, const float *__restrict b,
                                                                 std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        a[i] += b[i];
}

class Ring {
public:
    Ring(int rank, int ranks, int from, int to, std::size_t chunk) : rank_(rank), n_(ranks), from_(from), to_(to), most_(chunk) {}

    void all_reduce(const float *input, float *output, std::size_t count) {
        input_ = input;
        output_ = output;
        count_ = count;
        const std::size_t block = (count + n_ - 1) / n_ * sizeof(float);
        // Small blocks are cut as well, so that neighbours work at the same time.
        chunk_ = std::clamp(block / 4 / 64 * 64, std::min(kSmallestChunk, most_), most_);
        slices_ = (block + chunk_ - 1) / chunk_;
        steps_ = 2 * (n_ - 1);
        scratch_.resize(std::max<std::size_t>(1, n_ - 1) * kWindow * chunk_ / sizeof(float));
        ready_.assign(steps_, 0);
        sent_.assign(steps_ + 1, 0);
        sending_ = receiving_ = {};
        settle(sending_, 0);
        settle(receiving_, 1);
        int idle = 0;
        while (!sending_.ended || !receiving_.ended) {
            const bool got = receive();
            const bool put = send();
            idle = got || put ? 0 : idle + 1;
            if (idle == 0) continue;
            // The data usually arrive in less time than sleeping and waking up take. Other processes can use the core meanwhile.
            if (idle < kTriesBeforeSleep)
                ::sched_yield();
            else
                wait();
        }
    }

private:
    /// A place in the sequence that a connection carries.
    struct Cursor {
        std::size_t round = 0, step = 0;
        std::size_t slice = 0, block = 0;
        std::size_t bytes = 0;  // length of the current chunk
        std::size_t done = 0;   // bytes of it that were transferred
        bool ended = false;
    };

    std::size_t rank_, n_;
    int from_, to_;
    std::size_t most_;
    const float *input_ = nullptr;
    float *output_ = nullptr;
    std::size_t count_ = 0, chunk_ = 0, slices_ = 0, steps_ = 0;
    std::vector<float> scratch_;
    std::vector<std::size_t> ready_;  // per step: bytes of its stream that may be sent in the next step
    std::vector<std::size_t> sent_;   // per step: bytes of its stream that were sent
    Cursor sending_, receiving_;
    bool want_in_ = false, want_out_ = false;

    std::size_t block_begin(std::size_t block) const { return count_ * block / n_; }
    std::size_t element(const Cursor &at) const { return block_begin(at.block) + at.slice * chunk_ / sizeof(float); }
    float *slot(std::size_t step, std::size_t slice) {
        return scratch_.data() + (step * kWindow + slice % kWindow) * (chunk_ / sizeof(float));
    }

    /// Moves the cursor to the first chunk at or after its position. `behind`: 0 for this rank's blocks, 1 for its predecessor's.
    void settle(Cursor &at, std::size_t behind) const {
        for (; at.round < slices_ + steps_ - 1; ++at.round, at.step = 0) {
            for (; at.step < steps_; ++at.step) {
                if (at.step > at.round || at.round - at.step >= slices_) continue;
                at.slice = at.round - at.step;
                at.block = (rank_ + 2 * n_ - behind - at.step) % n_;
                const std::size_t whole = (block_begin(at.block + 1) - block_begin(at.block)) * sizeof(float);
                at.bytes = std::min(chunk_, whole - std::min(whole, at.slice * chunk_));
                at.done = 0;
                if (at.bytes > 0) return;
            }
        }
        at.ended = true;
    }

    void next(Cursor &at, std::size_t behind) const {
        ++at.step;
        settle(at, behind);
    }

    bool receive() {
        Cursor &at = receiving_;
        want_in_ = false;
        if (at.ended) return false;
        const bool partial = at.step + 2 < n_;
        const bool gathering = at.step + 2 > n_;
        if (partial && at.slice * chunk_ >= sent_[at.step + 1] + kWindow * chunk_) return false;  // its slot is not free yet
        float *const home = gathering ? output_ + element(at) : slot(at.step, at.slice);
        const ssize_t got = ::recv(from_, reinterpret_cast<char *>(home) + at.done, at.bytes - at.done, 0);
        if (got <= 0) {
            require(got < 0 && (errno == EAGAIN || errno == EINTR), "receiving");
            want_in_ = true;
            return false;
        }
        const std::size_t first = at.done / sizeof(float);
        at.done += static_cast<std::size_t>(got);
        const std::size_t fresh = at.done / sizeof(float) - first;
        const float *const own = input_ + element(at) + first;
        if (partial) add_to(home + first, own, fresh);
        if (!partial && !gathering) add(output_ + element(at) + first, home + first, own, fresh);
        ready_[at.step] = at.slice * chunk_ + at.done / sizeof(float) * sizeof(float);
        if (at.done == at.bytes) next(at, 1);
        return true;
    }

    bool send() {
        Cursor &at = sending_;
        want_out_ = false;
        if (at.ended) return false;
        const std::size_t begin = at.slice * chunk_;
        const std::size_t ready =
            at.step == 0 ? at.bytes : std::min(at.bytes, ready_[at.step - 1] - std::min(ready_[at.step - 1], begin));
        if (ready <= at.done || (ready < at.bytes && ready - at.done < kLeastWrite)) return false;
        const float *const home = at.step == 0       ? input_ + element(at)
                                  : at.step < n_ - 1 ? slot(at.step - 1, at.slice)
                                                     : output_ + element(at);
        const ssize_t put = ::send(to_, reinterpret_cast<const char *>(home) + at.done, ready - at.done, MSG_NOSIGNAL);
        if (put <= 0) {
            require(put < 0 && (errno == EAGAIN || errno == EINTR), "sending");
            want_out_ = true;
            return false;
        }
        at.done += static_cast<std::size_t>(put);
        if (at.done == at.bytes) {
            sent_[at.step] = begin + chunk_;
            next(at, 0);
        }
        return true;
    }

    void wait() const {
        pollfd sockets[2] = {{from_, static_cast<short>(want_in_ ? POLLIN : 0), 0},
                             {to_, static_cast<short>(want_out_ ? POLLOUT : 0), 0}};
        ::poll(sockets, 2, -1);
    }
};

/// The values are small integers, so every order of summation gives the same exact result.
float input_value(int rank, std::size_t i) { return static_cast<float>((rank + 1) * static_cast<int>(i * 7 % 1021)); }

Result measure(Ring &ring, int rank, const Options &options, std::size_t bytes) {
    const std::size_t count = std::max<std::size_t>(1, bytes / sizeof(float));
    std::vector<float> input(count), output(count);
    for (std::size_t i = 0; i < count; ++i)
        input[i] = input_value(rank, i);
    std::vector<double> times;
    for (int i = -options.warm_up; i < options.iterations; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        ring.all_reduce(input.data(), output.data(), count);
        if (i >= 0) times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count());
    }
    Result result{};
    std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
    result.time_us = times[times.size() / 2];
    std::fill(output.begin(), output.end(), -1.0F);
    ring.all_reduce(input.data(), output.data(), count);
    for (std::size_t i = 0; i < count; ++i)
        result.wrong += output[i] != input_value(0, i) * static_cast<float>(options.ranks * (options.ranks + 1) / 2);
    return result;
}

/// A connection over the loopback: {the end that sends, the end that receives}.
std::pair<int, int> connection(const Options &options) {
    const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto *const any = reinterpret_cast<sockaddr *>(&address);
    const int sender = ::socket(AF_INET, SOCK_STREAM, 0);
    for (const int socket : {listener, sender}) {
        ::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, options.congestion.c_str(), options.congestion.size());
        ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kSocketBuffer, sizeof kSocketBuffer);
        ::setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &kSocketBuffer, sizeof kSocketBuffer);
    }
    require(::bind(listener, any, length) == 0 && ::listen(listener, 1) == 0 && ::getsockname(listener, any, &length) == 0,
            "listening");
    require(::connect(sender, any, length) == 0, "connecting");
    const int receiver = ::accept(listener, nullptr, nullptr);
    require(receiver >= 0, "accepting");
    ::close(listener);
    const int on = 1;
    for (const int socket : {sender, receiver}) {
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ::fcntl(socket, F_SETFL, O_NONBLOCK);
    }
    return {sender, receiver};
}

std::size_t size_of(const char *text) {
    char *unit = nullptr;
    const double value = std::strtod(text, &unit);
    const double scale = *unit == 'K' ? 0x1p10 : *unit == 'M' ? 0x1p20 : *unit == 'G' ? 0x1p30 : 1;
    if (unit == text || value * scale < 1 || (*unit != 0 && scale == 1)) {
        std::fprintf(stderr, "bare_ring: invalid size '%s'; write a size as 4K, 256M or 1G\n", text);
        std::exit(64);
    }
    return static_cast<std::size_t>(value * scale);
}

Options parse(int argc, char **argv) {
    Options options;
    const option names[] = {{"json", required_argument, nullptr, 'j'},
                            {"chunk", required_argument, nullptr, 'c'},
                            {"congestion", required_argument, nullptr, 'C'},
                            {"help", no_argument, nullptr, 'h'},
                            {}};
    for (int key; (key = ::getopt_long(argc, argv, "t:b:e:f:n:w:h", names, nullptr)) != -1;) {
        switch (key) {
        case 't': options.ranks = std::atoi(optarg); break;
        case 'b': options.first = size_of(optarg); break;
        case 'e': options.last = size_of(optarg); break;
        case 'f': options.factor = std::atof(optarg); break;
        case 'n': options.iterations = std::atoi(optarg); break;
        case 'w': options.warm_up = std::atoi(optarg); break;
        case 'j': options.json = optarg; break;
        case 'c': options.chunk = size_of(optarg) / 64 * 64; break;
        case 'C': options.congestion = optarg; break;
        default:
            std::printf(
                "bare_ring [-t RANKS] [-b FIRST] [-e LAST] [-f FACTOR] [-n ITERATIONS] [-w WARM_UP] [--chunk SIZE] [--congestion "
                "NAME]\n"
                "          [--json FILE]\n"
                "Times a minimal ring all-reduce of float32 over TCP on this machine. Example: bare_ring -t 4 -b 1M -e 64M -f "
                "4\n"
                "Times are medians at the slowest rank. Exit status: 0 on success, 1 for wrong results, 2 for a "
                "failed system call, 64 for invalid options.\n");
            std::exit(key == 'h' ? 0 : 64);
        }
    }
    if (options.ranks < 2 || options.ranks > kMostRanks || options.iterations < 1 || options.warm_up < 0 || options.factor <= 1 ||
        options.chunk < 64) {
        std::fprintf(stderr,
                     "bare_ring: invalid options; choose 2 to %d ranks, 1 iteration or more, a factor above 1, chunks of 64 "
                     "bytes or more\n",
                     kMostRanks);
        std::exit(64);
    }
    return options;
}

}  // namespace

int main(int argc, char **argv) {
    const Options options = parse(argc, argv);
    const auto ranks = static_cast<std::size_t>(options.ranks);
    std::vector<std::size_t> sizes;
    for (double size = static_cast<double>(options.first); size <= static_cast<double>(options.last); size *= options.factor)
        sizes.push_back(static_cast<std::size_t>(size));
    void *const shared =
        ::mmap(nullptr, sizes.size() * ranks * sizeof(Result) + 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(shared != MAP_FAILED, "mmap");
    auto *const results = static_cast<Result *>(shared);

    std::vector<std::pair<int, int>> connections;  // the i-th goes from rank i to rank i + 1
    for (std::size_t i = 0; i < ranks; ++i)
        connections.push_back(connection(options));
    for (std::size_t rank = 0; rank < ranks; ++rank) {
        const pid_t child = ::fork();
        require(child >= 0, "fork");
        if (child > 0) continue;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int to = connections[rank].first, from = connections[(rank + ranks - 1) % ranks].second;
        for (const auto &[sender, receiver] : connections) {
            if (sender != to) ::close(sender);
            if (receiver != from) ::close(receiver);
        }
        Ring ring(static_cast<int>(rank), options.ranks, from, to, options.chunk);
        for (std::size_t i = 0; i < sizes.size(); ++i)
            results[i * ranks + rank] = measure(ring, static_cast<int>(rank), options, sizes[i]);
        std::_Exit(0);
    }
    for (const auto &[sender, receiver] : connections) {
        ::close(sender);
        ::close(receiver);
    }
    bool failed = false;
    for (int status; ::wait(&status) > 0;)
        failed |= status != 0;
    if (failed) return 2;

    std::FILE *const json = options.json ? std::fopen(options.json, "w") : nullptr;
    require(!options.json || json, "the file for --json");
    if (json) std::fprintf(json, "{\"peers\": %zu, \"iterations\": %d, \"rows\": [", ranks, options.iterations);
    std::printf("# bare_ring: %zu ranks, float32, sum, %d iterations after %d\n#%13s %14s %13s %13s %9s\n", ranks,
                options.iterations, options.warm_up, "size (B)", "time (us)", "algbw (GB/s)", "busbw (GB/s)", "#wrong");
    std::uint64_t wrong_in_all = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        Result slowest{};
        for (std::size_t rank = 0; rank < ranks; ++rank) {
            slowest.time_us = std::max(slowest.time_us, results[i * ranks + rank].time_us);
            slowest.wrong += results[i * ranks + rank].wrong;
        }
        wrong_in_all += slowest.wrong;
        const double algbw = static_cast<double>(sizes[i]) / slowest.time_us / 1e3;
        const double busbw = algbw * 2 * static_cast<double>(ranks - 1) / static_cast<double>(ranks);
        std::printf("%14zu %14.1f %13.3f %13.3f %9llu\n", sizes[i], slowest.time_us, algbw, busbw,
                    static_cast<unsigned long long>(slowest.wrong));
        if (json) {
            std::fprintf(json,
                         "%s\n  {\"bytes\": %zu, \"time_us\": %.3f, \"algbw_gbs\": %.6f, \"busbw_gbs\": %.6f, \"wrong\": %llu}",
                         i ? "," : "", sizes[i], slowest.time_us, algbw, busbw, static_cast<unsigned long long>(slowest.wrong));
        }
    }
    if (json) {
        std::fprintf(json, "\n]}\n");
        std::fclose(json);
    }
    return wrong_in_all > 0 ? 1 : 0;
}
