// The same as decode_attention.cu on tensor cores, for the two brief types from capability 8.0 on.
// A team of blocks, a cluster from 9.0 on, shares a split of a row's positions. Each sends its
// share of the sums to the block that will add them up, so that after one meeting every block has
// what it needs; only splits meet in memory.
#include "kernels/cuda/cluster.h"
#include "kernels/cuda/joint.h"
#include "kernels/cuda/near.h"
#include "kernels/cuda/walk.h"

namespace pensive::kernels {
namespace {

constexpr int most_team = 8;

template <class S, int sets, int warps>
struct Shared {
  float2 marks[warps][walk_heads];           // largest score, sum of the weights
  float2 team_marks[most_team][walk_heads];  // of the team's blocks
  float weights[walk_heads][most_splits];
  int is_last;
  alignas(16) S queries[walk_heads * sets * 64];
  alignas(16) S newest[2 * sets * 64];
};

// What a block of a team adds up of every head: the fours from first to end. Told before the
// queries are there, since divisions take long.
struct Own {
  int fours;             // of a head
  int each, first, end;  // of a head, this block's
  int to, at;            // whom this lane's four goes to, and which of theirs it is
  int head, four;        // that this thread adds up
  __device__ Own(const DecodeAttention& call, const Mine& mine) {
    int team = max(call.team, 1), lane = threadIdx.x % 32;
    fours = call.head_dim / 4;
    each = (fours + team - 1) / team;
    first = min(fours, mine.rank * each);
    end = min(fours, first + each);
    to = lane / each;
    at = lane % each;
    head = threadIdx.x / each;
    four = first + threadIdx.x % each;
  }
};

// The warps' sums of this block, in their order: to the output where the team is one block, else
// to the blocks that add them up. A warp takes a head at a time.
template <class S, int sets, int warps>
__device__ void join_warps(const DecodeAttention& call, const Mine& mine, const Own& own,
                           Shared<S, sets, warps>& shared, const unsigned char* room,
                           float* incoming) {
  int lane = threadIdx.x % 32;
  int stride = call.stages * stage_bytes(call.head_dim) / static_cast<int>(sizeof(float));
  for (int g = threadIdx.x / 32; g < mine.heads; g += warps) {
    const Joint<warps> joint(&shared.marks[0][g], walk_heads, warps);
    if (call.team > 1) {
      if (lane < call.team)
        in_block(&shared, lane)->team_marks[mine.rank][g] = make_float2(joint.most, joint.sum);
    } else if (mine.splits > 1 && lane == 0) {
      tell(call, mine, joint, g);
    }
    if (lane >= own.fours) continue;
    const float* from =
        reinterpret_cast<const float*>(room) + g * sum_stride(call.head_dim) + lane * 4;
    float4 all = joint.add(from, stride, warps);
    if (call.team > 1) {
      float* there = in_block(incoming, own.to);
      *reinterpret_cast<float4*>(there + ((mine.rank * walk_heads + g) * own.each + own.at) * 4) =
          all;
    } else {
      hand_on<S>(call, mine, joint, g, lane * 4, all);
    }
  }
}

// What the team's blocks sent to this one.
template <class S, int sets, int warps>
__device__ void join_team(const DecodeAttention& call, const Mine& mine, const Own& own,
                          Shared<S, sets, warps>& shared, const float* incoming) {
  // Every block tells the same of a head, and waits for nobody else's word.
  if (mine.splits > 1 && threadIdx.x < mine.heads)
    tell(call, mine, Joint<most_team>(&shared.team_marks[0][threadIdx.x], walk_heads, call.team),
         threadIdx.x);
  if (own.head >= mine.heads || own.four >= own.end) return;
  const Joint<most_team> joint(&shared.team_marks[0][own.head], walk_heads, call.team);
  const float* from = incoming + (own.head * own.each + own.four - own.first) * 4;
  hand_on<S>(call, mine, joint, own.head, own.four * 4,
             joint.add(from, walk_heads * own.each * 4, call.team));
}

template <class S, int sets, int warps>
__global__ void __launch_bounds__(warps * 32) attend_tiles(DecodeAttention call) {
  constexpr int threads = warps * 32;
  extern __shared__ __align__(16) unsigned char room[];  // of the warps; then what the team sends
  __shared__ Shared<S, sets, warps> shared;
  let_next_come();
  Mine mine;
  if (!mine.find_in_team(call, walk_heads)) return give_zeros<S, threads>(call, mine);
  if (call.team > 1) arrive_at_cluster();
  int dim = call.head_dim, warp = threadIdx.x / 32;
  int warp_room = call.stages * stage_bytes(dim);
  Walk<S, sets, warps> walk(call, mine, room + warp * warp_room, warp);
  const Angles<sets> angles(call, mine.length - 1);  // a pair for each 64 dimensions
  ask_for_weights<S, threads>(call, mine);
  const Own own(call, mine);
  for (int i = mine.heads * dim + threadIdx.x; i < walk_heads * dim; i += threads)
    narrow(0.0f, shared.queries + i);
  wait_for_previous();
  turn_heads<S, warps>(call, mine, angles, shared.newest, [&](int g, int d, float value) {
    narrow(value, shared.queries + g * dim + d);
  });
  __syncthreads();
  walk.run(shared.queries, shared.newest);
  walk.put(shared.marks[warp]);
  if (call.team > 1) wait_for_cluster();  // all are there to be sent to
  __syncthreads();
  auto* incoming = reinterpret_cast<float*>(room + warps * warp_room);
  join_warps(call, mine, own, shared, room, incoming);
  if (call.team > 1) {
    arrive_at_cluster();
    wait_for_cluster();
    join_team(call, mine, own, shared, incoming);
  }
  if (mine.splits == 1 || !comes_last(call, mine, &shared.is_last)) return;
  join_splits<S, threads>(call, mine, own.first, own.end, shared.weights);
}

template <class S, int sets, int warps>
int launch(const DecodeAttention& call, Way way) {
  int group = call.heads / call.kv_heads, parts = (group + walk_heads - 1) / walk_heads;
  // The last is what a team sends: a little more than a block's sums.
  std::size_t shared = warps * call.stages * stage_bytes(call.head_dim) +
                       walk_heads * (call.head_dim + 4 * most_team) * sizeof(float);
  const auto kernel = attend_tiles<S, sets, warps>;
  if (int error = allow_near_memory<attend_tiles<S, sets, warps>>()) return error;
  return start_teams(kernel, dim3(call.splits * call.team, call.kv_heads * parts, call.rows),
                     warps * 32, call.team, shared, way, call);
}

template <class S, int sets>
int launch_for(const DecodeAttention& call, Way way) {
  return call.is_large ? launch<S, sets, 2 * walk_warps>(call, way)
                       : launch<S, sets, walk_warps>(call, way);
}

template <class S>
int launch_for(const DecodeAttention& call, Way way) {
  return call.head_dim <= 64 ? launch_for<S, 1>(call, way) : launch_for<S, 2>(call, way);
}

}  // namespace

bool takes_attention_tiles(int head_dim, Scalar scalar, Way way) {
  return way.capability >= 80 && head_dim <= 128 && head_dim % 8 == 0 &&
         (scalar == Scalar::bfloat16 || scalar == Scalar::float16);
}

int launch_attention_tiles(const DecodeAttention& call, Scalar scalar, Way way) {
  if (!takes_attention_tiles(call.head_dim, scalar, way)) return cudaErrorInvalidValue;
  return scalar == Scalar::bfloat16 ? launch_for<__nv_bfloat16>(call, way)
                                    : launch_for<__half>(call, way);
}

}  // namespace pensive::kernels
