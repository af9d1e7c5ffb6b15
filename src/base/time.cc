// Parses and formats durations. Integer arithmetic only, exact to the microsecond.
#include "base/time.h"

#include <array>
#include <limits>

namespace pccl {
namespace {

struct Unit {
    std::string_view name;
    std::uint64_t us;
};
constexpr std::array<Unit, 5> kUnits{{{"us", 1}, {"ms", 1'000}, {"s", 1'000'000}, {"m", 60'000'000}, {"h", 3'600'000'000}}};
constexpr std::uint64_t kMax = std::numeric_limits<Duration::rep>::max();

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Takes leading digits off `text`. nullopt: none, or more than `kMax`.
std::optional<std::uint64_t> take_number(std::string_view &text) {
    if (text.empty() || !is_digit(text.front())) return std::nullopt;
    std::uint64_t value = 0;
    while (!text.empty() && is_digit(text.front())) {
        const auto digit = static_cast<std::uint64_t>(text.front() - '0');
        if (value > (kMax - digit) / 10) return std::nullopt;
        value = value * 10 + digit;
        text.remove_prefix(1);
    }
    return value;
}

/// Takes ".digits" off `text` and returns it in units of 10^-9; 0 if there is none. nullopt: no or too many digits.
std::optional<std::uint64_t> take_fraction(std::string_view &text) {
    if (text.empty() || text.front() != '.') return 0;
    text.remove_prefix(1);
    std::uint64_t value = 0;
    std::size_t digits = 0;
    for (; digits < text.size() && is_digit(text[digits]); ++digits) {
        if (digits == 9) return std::nullopt;
        value = value * 10 + static_cast<std::uint64_t>(text[digits] - '0');
    }
    if (digits == 0) return std::nullopt;
    text.remove_prefix(digits);
    for (; digits < 9; ++digits)
        value *= 10;
    return value;
}

/// One way to write a duration: `digits / 10^decimals` units, with an error of `off` microseconds.
struct Spelling {
    std::string text;
    std::uint64_t off = 0;
};

/// With at most three digits; nullopt where the unit is too large (less than one of it) or too small (a thousand or more).
std::optional<Spelling> spell(std::uint64_t us, const Unit &unit) {
    for (unsigned decimals : {2U, 1U, 0U}) {
        const std::uint64_t scale = decimals == 2 ? 100 : decimals == 1 ? 10 : 1;
        if (unit.us % scale != 0) continue;
        const std::uint64_t step = unit.us / scale, digits = us / step + (us % step >= (step + 1) / 2 ? 1 : 0);
        if (digits < scale) return std::nullopt;
        if (digits >= 1000 && (decimals > 0 || unit.name != "h")) continue;
        std::string text = std::to_string(digits / scale);
        if (decimals > 0) {
            std::string fraction = std::to_string(scale + digits % scale).substr(1);
            while (!fraction.empty() && fraction.back() == '0')
                fraction.pop_back();
            if (!fraction.empty()) text += '.' + fraction;
        }
        text += unit.name;
        return Spelling{std::move(text), digits * step > us ? digits * step - us : us - digits * step};
    }
    return std::nullopt;
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
    if (text == "0") return Duration{0};
    const auto whole = take_number(text);
    if (!whole) return std::nullopt;
    const auto fraction = take_fraction(text);
    if (!fraction) return std::nullopt;
    for (const Unit &unit : kUnits) {
        if (text != unit.name) continue;
        constexpr std::uint64_t kBillion = 1'000'000'000;
        // At most 10^9 * 3.6 * 10^9: fits.
        if (*fraction * unit.us % kBillion != 0) return std::nullopt;
        const std::uint64_t part = *fraction * unit.us / kBillion;
        if (*whole > (kMax - part) / unit.us) return std::nullopt;
        return Duration{static_cast<Duration::rep>(*whole * unit.us + part)};
    }
    return std::nullopt;
}

std::string to_string(Duration duration) {
    const Duration::rep count = duration.count();
    if (count == 0) return "0";
    const std::uint64_t us = count < 0 ? 0 - static_cast<std::uint64_t>(count) : static_cast<std::uint64_t>(count);
    std::optional<Spelling> best;
    for (const Unit &unit : kUnits) {
        auto spelling = spell(us, unit);
        if (!spelling) continue;
        const bool better =
            !best || spelling->off < best->off || (spelling->off == best->off && spelling->text.size() <= best->text.size());
        if (better) best = std::move(spelling);
    }
    return (count < 0 ? "-" : "") + best->text;
}

}  // namespace pccl
