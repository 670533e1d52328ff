// What the packed forms share. Included by pack*.cpp alone.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "engine/rows.h"
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

// Of a job or a step; times as differences from when that, or its run, was made.
void write_hold(ByteWriter& out, const engine::Hold& hold, std::int64_t created);
engine::Hold read_hold(ByteReader& in, std::int64_t created);

inline void write_artifact(ByteWriter& out, const engine::ArtifactRef& artifact) {
  out.fixed64(artifact.id.value);
  out.text(artifact.sha256);
  out.text(artifact.mime);
  out.varint(artifact.bytes);
  out.text(artifact.extension);
}
inline engine::ArtifactRef read_artifact(ByteReader& in) {
  engine::ArtifactRef artifact;
  artifact.id = {in.fixed64()};
  artifact.sha256 = in.text();
  artifact.mime = in.text();
  artifact.bytes = in.varint();
  artifact.extension = in.text();
  return artifact;
}
constexpr std::size_t kArtifactBytesMin = 12;  // what one takes at least

}  // namespace turnpike::journal
