// What the packed forms share. Included by pack*.cpp alone.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "journal/bytes.h"
#include "policy/meters.h"

namespace turnpike::journal {

inline std::unexpected<Error> malformed(const char* what) {
  return fail(ErrorCode::kInternal,
              std::string("the journal holds ") + what +
                  " that cannot be read: the database is damaged, restore it from a backup");
}

// A mask of the amounts that are not zero, then these.
inline void write_amounts(ByteWriter& out, const policy::Amounts& amounts) {
  std::uint64_t mask = 0;
  for (std::size_t i = 0; i < policy::kMeterCount; ++i) mask |= std::uint64_t{amounts.of[i] != 0} << i;
  out.varint(mask);
  for (std::uint64_t left = mask; left != 0; left &= left - 1) {
    out.zigzag(amounts.of[static_cast<std::size_t>(std::countr_zero(left))]);
  }
}
inline policy::Amounts read_amounts(ByteReader& in) {
  policy::Amounts amounts;
  const std::uint64_t mask = in.varint();
  if (mask >= std::uint64_t{1} << policy::kMeterCount) {
    in.spoil();
    return amounts;
  }
  for (std::uint64_t left = mask; left != 0; left &= left - 1) {
    amounts.of[static_cast<std::size_t>(std::countr_zero(left))] = in.zigzag();
  }
  return amounts;
}

}  // namespace turnpike::journal
