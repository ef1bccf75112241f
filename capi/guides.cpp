#include "pensive/guides.h"

#include "handles.h"

namespace door {
namespace {

// The catalogue as C sees it; its texts are literals.
struct Described {
  std::vector<std::vector<pensive_guide_key>> keys;
  std::vector<pensive_guide_info> infos;
};

const Described& described() {
  static const Described all = [] {
    Described made;
    made.keys.reserve(pensive::guides().size());
    for (const pensive::GuideInfo& info : pensive::guides()) {
      auto& keys = made.keys.emplace_back();
      for (const pensive::GuideKey& key : info.keys)
        keys.push_back({key.name.data(), key.fallback.data(), key.meaning.data()});
      made.infos.push_back({sizeof(pensive_guide_info), static_cast<int32_t>(keys.size()),
                            info.name.data(), info.source.data(), info.meaning.data(),
                            keys.data()});
    }
    return made;
  }();
  return all;
}

}  // namespace

int32_t guide_parse(const char* spec, const pensive_tokenizer* tokenizer,
                    const pensive_markers* markers, pensive_guide** guide, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(guide, "guide");
    pensive::GuideContext context{need(tokenizer, "tokenizer").value, {}};
    context.markers = markers ? markers_in(*markers) : pensive::find_markers(*context.tokenizer);
    slot = new pensive_guide{pensive::make_guide(text_in(spec, "spec"), context)};
  });
}

int32_t guide_count() { return static_cast<int32_t>(described().infos.size()); }

int32_t guide_describe(int32_t index, pensive_guide_info* info, pensive_error** error) {
  return guard(error, [&] {
    if (index < 0 || index >= guide_count())
      refuse("an index below " + std::to_string(guide_count()), std::to_string(index), "index");
    struct_out(info, described().infos[static_cast<std::size_t>(index)], "pensive_guide_info");
  });
}

}  // namespace door
