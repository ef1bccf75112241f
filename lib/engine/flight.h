// The step in flight: what was launched before guides had seen the tokens that it goes on with.
// Plain values.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/scheduler.h"
#include "kernels/kernels.h"

namespace pensive {

struct Flight {
  struct Row {
    std::uint64_t order = 0;  // its lane's
    int position = 0;         // where the token stands that it draws from
    int page = 0;             // to which that token's keys and values go
    kernels::DrawRow wish;
    TokenId token = -1;  // the token itself, once it is known
  };
  std::vector<Row> rows;

  bool is_up() const noexcept { return !rows.empty(); }
  // For each chunk of the plan, the row that has computed just that; -1 where none has. `draws`
  // are the wishes of the chunks that are drawn from.
  std::vector<int> find(const Plan& plan, const std::vector<kernels::DrawRow>& draws,
                        int page_tokens) const;

 private:
  int find(const Lane& lane, std::size_t from) const;
};

}  // namespace pensive
