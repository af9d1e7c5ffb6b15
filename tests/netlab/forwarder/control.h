// The text protocol: one command per line, one answer per command, whose last line is `ok` or starts with `error: `.
#pragma once

#include "forwarder/network.h"

#include <optional>
#include <string>
#include <string_view>

namespace netlab {

extern const char *const kCommands;  // for --help

/// "25ms", "1gbit", "4mb", "0.01%" as nanoseconds, bits per second, bytes, a probability; no value if malformed.
std::optional<Nanoseconds> parse_time(std::string_view text);
std::optional<double> parse_rate(std::string_view text);
std::optional<double> parse_bytes(std::string_view text);
std::optional<double> parse_fraction(std::string_view text);

/// Carries a command out; returns the answer. Sets `stop` on the command of that name.
std::string execute(Network &network, std::string_view line, bool &stop);

}  // namespace netlab
