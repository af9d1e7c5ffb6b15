// The text protocol: one command per line, and one answer per command. The last line of an answer is `ok` or begins with
// `error: `.
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

/// Executes a command and returns the answer. The command `stop` sets `stop`.
std::string execute(Network &network, std::string_view line, bool &stop);

}  // namespace netlab
