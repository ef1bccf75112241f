// Markers that are plain text, looked for in decoded text.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "pensive/think.h"

namespace pensive {

// Values only.
class Tags {
 public:
  struct Found {
    Marker marker = Marker::none;
    std::size_t begin = 0, end = 0;  // bytes of the text
  };

  Tags() = default;
  // Takes those of several tokens, none of which is special: the others have no text of their own.
  Tags(const Markers& markers, const Tokenizer& tokenizer);

  bool empty() const noexcept { return tags_.empty(); }
  std::size_t longest() const noexcept { return longest_; }  // in bytes
  // The first tag that ends behind byte `known`; of several that end there the longest.
  Found find(std::string_view text, std::size_t known) const;
  // Bytes at the end of the text with which a tag may have begun; less than a whole one.
  std::size_t begun(std::string_view text) const;

 private:
  struct Tag {
    Marker marker;
    std::string text;
  };
  std::vector<Tag> tags_;
  std::size_t longest_ = 0;
};

}  // namespace pensive
