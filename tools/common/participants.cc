#include "common/participants.h"

#include <array>
#include <bit>

#include "common/elements.h"

namespace pccl::tools {

namespace {

/// The averages of any two sets of contributions, times 60, are different numbers.
double slot_value(int slot) { return 60.0 * (1 << slot); }

/// Makes an element at a wrong index visible.
double factor(std::size_t element) { return static_cast<double>(1 << (element / 97 % 3)); }

std::array<double, 1 << kSlots> averages() {
    std::array<double, 1 << kSlots> out{};
    for (unsigned mask = 1; mask < out.size(); ++mask) {
        for (int slot = 0; slot < kSlots; ++slot)
            out[mask] += mask >> slot & 1 ? slot_value(slot) : 0;
        out[mask] /= std::popcount(mask);
    }
    return out;
}

}  // namespace

void fill_slot(int slot, pcclDataType_t type, void *out, std::size_t count) {
    visit_type(type, [&](auto example) {
        using T = decltype(example);
        for (std::size_t i = 0; i < count; ++i)
            store(out, i, from_double<T>(slot_value(slot) * factor(i)));
    });
}

Participants check_participants(pcclDataType_t type, const void *result, std::size_t count) {
    static const auto kAverages = averages();
    Participants out;
    visit_type(type, [&](auto example) {
        unsigned mask = 0;
        std::uint64_t run = 0;  // elements since `mask` last changed
        for (std::size_t i = 0; i < count; ++i) {
            const double value = to_double(load<decltype(example)>(result, i)) / factor(i);
            if (mask == 0 || value != kAverages[mask]) {
                if (run > 0) out.elements[mask] += run;
                run = 0;
                for (mask = static_cast<unsigned>(kAverages.size()) - 1; mask > 0 && value != kAverages[mask]; --mask) {
                }
                if (mask == 0 && out.wrong++ == 0) {
                    out.first_wrong = i;
                    out.found = value;
                }
            }
            run += mask > 0;
        }
        if (run > 0) out.elements[mask] += run;
    });
    return out;
}

}  // namespace pccl::tools
