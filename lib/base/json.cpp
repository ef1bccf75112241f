#include <cstdint>
#include <limits>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/inside.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

// Builds a document while it is read. ordered_json itself would look for each key among all
// before it, and would take the last of two equal keys.
class Builder {
 public:
  explicit Builder(std::string_view where) : where_(where) {}
  Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(std::int64_t value) { return add(value); }
  bool number_unsigned(std::uint64_t value) { return add(value); }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(std::vector<std::uint8_t>&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    const bool is_new = open_.back().keys.insert(name).second;
    require(is_new, ErrorCode::corrupt_file, "each key once", "two keys " + in_quotes(name),
            where_);
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& e) {
    const std::string_view what = e.what();
    const std::size_t bracket = what.find("] ");
    fail(ErrorCode::corrupt_file, "JSON",
         bracket == std::string_view::npos ? what : what.substr(bracket + 2),
         fmt::format("{}, byte {}", where_, position));
  }

 private:
  struct Level {
    Json* value;
    std::unordered_set<std::string> keys;
  };

  template <class Value>
  bool add(Value&& value) {
    place(std::forward<Value>(value));
    return true;
  }

  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back().value;
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    auto& members = parent.get_ref<Json::object_t&>();
    static_cast<Json::object_t::Container&>(members).emplace_back(std::move(key_),
                                                                  std::move(value));
    return &members.back().second;
  }

  bool open(Json value) {
    constexpr std::size_t most_levels = 64;
    require(open_.size() < most_levels, ErrorCode::corrupt_file, "JSON at most 64 levels deep",
            "more", where_);
    Json* placed = place(std::move(value));
    open_.push_back({placed, {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string where_;
  Json root_;
  std::string key_;
  std::vector<Level> open_;
};

std::string described(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
  return value.dump();
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) {
  Builder builder(where);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

template <class T>
T member(const Json& object, std::string_view key, std::string_view where) {
  require(object.is_object(), ErrorCode::corrupt_file,
          fmt::format("an object with the key {}", in_quotes(key)), described(object), where);
  const auto found = object.find(std::string(key));
  require(found != object.end(), ErrorCode::corrupt_file, fmt::format("the key {}", in_quotes(key)),
          "none", where);
  const auto refuse = [&](std::string_view type) {
    fail(ErrorCode::corrupt_file, fmt::format("{} as {}", type, in_quotes(key)), described(*found),
         where);
  };
  if constexpr (std::is_same_v<T, bool>) {
    if (!found->is_boolean()) refuse("true or false");
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
    const bool is_huge = found->is_number_unsigned() && found->template get<std::uint64_t>() > most;
    if (!found->is_number_integer() || is_huge) refuse("a whole number");
  } else if constexpr (std::is_same_v<T, double>) {
    if (!found->is_number()) refuse("a number");
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) refuse("a text");
  }
  return found->template get<T>();
}

template bool member(const Json&, std::string_view, std::string_view);
template std::int64_t member(const Json&, std::string_view, std::string_view);
template double member(const Json&, std::string_view, std::string_view);
template std::string member(const Json&, std::string_view, std::string_view);
template Json member(const Json&, std::string_view, std::string_view);

}  // namespace pensive
