// How a character that JSON text may not hold as it is is written in it (RFC 8259, section 7).
#pragma once

#include <string>

namespace turnpike {

// `c` is a quote, a backslash or a control character (< 0x20).
std::string json_escape(unsigned char c);

}  // namespace turnpike
