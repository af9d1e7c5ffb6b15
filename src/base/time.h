// Time as a value. The pure layers receive it as an argument and never read a clock.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pccl {

using Duration = std::chrono::microseconds;

/// A point on a monotonic clock with an arbitrary origin.
struct Time {
    Duration since_origin{};
    friend auto operator<=>(const Time &, const Time &) = default;
    friend Time operator+(Time t, Duration d) { return {t.since_origin + d}; }
    friend Duration operator-(Time a, Time b) { return a.since_origin - b.since_origin; }
};

inline Time monotonic_now() {
    return {std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())};
}

/// "500ms", "3s", "2m", "1.5s", "100us", "1h". A number without a unit is not a duration, except "0".
std::optional<Duration> parse_duration(std::string_view text);

/// Returns the shortest of those forms that is exact to three digits: "1.25s".
std::string to_string(Duration duration);

}  // namespace pccl
