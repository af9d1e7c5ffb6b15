#include "forwarder/control.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <sstream>
#include <utility>
#include <vector>

namespace netlab {

const char *const kCommands = R"(Commands; A and B are hosts 0 to n-1, or * for all. Each applies to the direction from A to B.
  set A B [delay 25ms] [rate 1gbit|none] [queue 4mb|auto] [loss 0.01%]   other settings do not change; auto is the bytes that the rate
                                     carries in two delays, at least 256kb
  block A B / unblock A B            drop all packets silently, including those in flight
  shape A B port P rate 100mbit|10%  a separate bottleneck for packets with this port; % is of the rate of A B; `rate none` removes it
  remove A                           remove the host permanently, in both directions
  show A B                           print settings and counters
  stop                               end the lab
)";

namespace {

struct Unit {
    const char *name;
    double scale;
};

struct Mistake {
    std::string what;
};

template <std::size_t N> std::optional<double> parse_unit(std::string_view text, const Unit (&units)[N]) {
    double value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc() || !(value >= 0) || !std::isfinite(value)) return std::nullopt;
    const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
    for (const auto &[name, scale] : units) {
        if (unit == name) return value * scale;
    }
    return std::nullopt;
}

class Words {
public:
    explicit Words(std::string_view line) : in_{std::string(line)} {}
    std::string next(const char *what) {
        std::string word;
        if (!(in_ >> word)) throw Mistake{std::string(what) + " is missing"};
        return word;
    }
    bool next_if_any(std::string &word) { return static_cast<bool>(in_ >> word); }
    void end() {
        std::string word;
        if (in_ >> word) throw Mistake{"'" + word + "' is not expected here"};
    }

private:
    std::istringstream in_;
};

template <typename T> T required(std::optional<T> value, const char *what, const std::string &word) {
    if (!value) throw Mistake{"'" + word + "' is not a " + what};
    return *value;
}

std::vector<int> hosts_of(const Network &network, const std::string &word) {
    std::vector<int> hosts;
    if (word == "*") {
        for (int host = 0; host < network.hosts(); ++host)
            hosts.push_back(host);
        return hosts;
    }
    int host = -1;
    const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), host);
    if (code != std::errc() || end != word.data() + word.size() || host < 0 || host >= network.hosts())
        throw Mistake{"'" + word + "' is not a host; write 0 to " + std::to_string(network.hosts() - 1) + ", or *"};
    return {host};
}

std::vector<std::pair<int, int>> pairs_of(const Network &network, Words &words) {
    const auto from = hosts_of(network, words.next("a host"));
    const auto to = hosts_of(network, words.next("the second host"));
    std::vector<std::pair<int, int>> pairs;
    for (const int a : from) {
        for (const int b : to) {
            if (a != b) pairs.emplace_back(a, b);
        }
    }
    return pairs;
}

void set(Network &network, Words &words) {
    const auto pairs = pairs_of(network, words);
    std::vector<ShaperOptions> options;
    for (const auto &[a, b] : pairs)
        options.push_back(network.link(a, b).wire.options());
    std::string key;
    while (words.next_if_any(key)) {
        const std::string value = words.next(("the value of " + key).c_str());
        for (ShaperOptions &option : options) {
            if (key == "delay")
                option.delay = required(parse_time(value), "time; write 25ms", value);
            else if (key == "rate")
                option.rate = value == "none" ? 0 : required(parse_rate(value), "rate; write 1gbit", value);
            else if (key == "queue")
                option.queue_bytes = value == "auto" ? 0 : required(parse_bytes(value), "size; write 4mb", value);
            else if (key == "loss")
                option.loss = required(parse_fraction(value), "loss; write 0.01%", value);
            else
                throw Mistake{"'" + key + "' cannot be set"};
        }
    }
    for (std::size_t i = 0; i < pairs.size(); ++i)
        network.link(pairs[i].first, pairs[i].second).wire.configure(options[i]);
}

void shape(Network &network, Words &words) {
    const auto pairs = pairs_of(network, words);
    if (words.next("port") != "port") throw Mistake{"expected: shape A B port P rate R"};
    const std::string port_word = words.next("the port");
    std::uint16_t port = 0;
    const auto [end, code] = std::from_chars(port_word.data(), port_word.data() + port_word.size(), port);
    if (code != std::errc() || *end != 0) throw Mistake{"'" + port_word + "' is not a port"};
    if (words.next("rate") != "rate") throw Mistake{"expected: shape A B port P rate R"};
    const std::string rate_word = words.next("the rate");
    words.end();
    for (const auto &[a, b] : pairs) {
        Link &link = network.link(a, b);
        link.flows.remove_if([&](const Link::Flow &flow) { return flow.port == port; });
        if (rate_word == "none") continue;
        ShaperOptions options;
        if (rate_word.back() == '%') {
            options.rate = required(parse_fraction(rate_word), "rate", rate_word) * link.wire.options().rate;
            if (options.rate <= 0) throw Mistake{"a fraction needs a rate of the pair; set the rate first"};
        } else {
            options.rate = required(parse_rate(rate_word), "rate; write 100mbit or 10%", rate_word);
        }
        options.queue_bytes = link.wire.options().queue_bytes;
        link.flows.push_back({port, Shaper(port)});
        link.flows.back().shaper.configure(options);
    }
}

std::string show(Network &network, Words &words) {
    const auto pairs = pairs_of(network, words);
    words.end();
    std::string text;
    for (const auto &[a, b] : pairs) {
        const Link &link = network.link(a, b);
        const ShaperOptions &o = link.wire.options();
        const Counters &c = link.wire.counters();
        char line[512];
        std::snprintf(
            line, sizeof line,
            "%d %d delay_ns %lld rate_bits %.0f queue_bytes %.0f loss %g blocked %d packets %llu segments %llu bytes %llu "
            "overflowed %llu lost %llu dropped %llu\n",
            a, b, static_cast<long long>(o.delay), o.rate, o.queue_bytes, o.loss, link.blocked ? 1 : 0,
            static_cast<unsigned long long>(c.packets), static_cast<unsigned long long>(c.segments),
            static_cast<unsigned long long>(c.bytes), static_cast<unsigned long long>(c.overflowed),
            static_cast<unsigned long long>(c.lost), static_cast<unsigned long long>(c.blocked));
        text += line;
    }
    return text;
}

std::string carry_out(Network &network, Words &words, bool &stop) {
    const std::string command = words.next("a command");
    if (command == "set") {
        set(network, words);
    } else if (command == "block" || command == "unblock") {
        const auto pairs = pairs_of(network, words);
        words.end();
        for (const auto &[a, b] : pairs) {
            if (command == "block" || !(network.removed(a) || network.removed(b))) network.block(a, b, command == "block");
        }
    } else if (command == "shape") {
        shape(network, words);
    } else if (command == "remove") {
        const auto hosts = hosts_of(network, words.next("a host"));
        words.end();
        for (const int host : hosts)
            network.remove(host);
    } else if (command == "show") {
        return show(network, words);
    } else if (command == "stop") {
        stop = true;
    } else {
        throw Mistake{"'" + command + "' is not a command; use set, block, unblock, shape, remove, show or stop"};
    }
    return "";
}

}  // namespace

std::optional<Nanoseconds> parse_time(std::string_view text) {
    const auto value = parse_unit(text, {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}});
    return value && *value <= 3600e9 ? std::optional(static_cast<Nanoseconds>(*value)) : std::nullopt;
}
std::optional<double> parse_rate(std::string_view text) {
    const auto value = parse_unit(text, {{"", 1}, {"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}});
    return value && *value >= 1 ? value : std::nullopt;
}
std::optional<double> parse_bytes(std::string_view text) {
    const auto value = parse_unit(text, {{"", 1}, {"b", 1}, {"kb", 1024}, {"mb", 0x1p20}, {"gb", 0x1p30}});
    return value && *value >= 1 ? value : std::nullopt;
}
std::optional<double> parse_fraction(std::string_view text) {
    const auto value = parse_unit(text, {{"", 1}, {"%", 0.01}});
    return value && *value <= 1 ? value : std::nullopt;
}

std::string execute(Network &network, std::string_view line, bool &stop) {
    try {
        Words words(line);
        return carry_out(network, words, stop) + "ok\n";
    } catch (const Mistake &mistake) {
        return "error: " + mistake.what + "\n";
    }
}

}  // namespace netlab
