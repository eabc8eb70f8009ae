// Correlation of two feature maps over a window of displacements, its gradients, and the local transfer. The local
// transfer moves masks by the softmax of the correlation over the window, without storing the correlation volume.
//
// All kernels use the same assignment of work. A block handles ROWS x GROUPS x PIXELS centre pixels of one image
// pair. Neighbouring centres of a block have the distance `dilation`, horizontally and vertically, so that they are
// compared with the same displaced pixels. A thread handles one group of 8 centres and one row of 9 displacements:
// 72 products or 72 weights in registers, computed from 8 centre and 16 displaced values per channel. Windows wider
// than 9 are processed in blocks of 9 x 9. Sums are accumulated in float32. Every output element is written by one
// thread, so that results are bit-identical between runs.
//
// The source is compiled once per element type and kernel: SCALAR is float, __half or __nv_bfloat16, and
// WITH_<KERNEL> selects a kernel. A single kernel compiles in a fraction of a second.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

constexpr int PIXELS = 8;                        // centres per thread
constexpr int GROUPS = 4;                        // groups of centres in a row of the block
constexpr int ROWS = 4;                          // rows of centres in the block
constexpr int WINDOW = 9;                        // displacements processed at a time, along y and along x
constexpr int REACH = PIXELS + WINDOW - 1;       // displaced pixels of a group in a row
constexpr int HALO_ROWS = ROWS + WINDOW - 1;     // displaced rows of the block
constexpr int THREADS = GROUPS * WINDOW * ROWS;  // 144; the host launches this many
constexpr int CENTRE_POINTS = ROWS * GROUPS * PIXELS;
constexpr int HALO_POINTS = HALO_ROWS * GROUPS * REACH;
constexpr int CORRELATED = 8;                    // channels in shared memory at a time, in `correlate`
constexpr int GATHERED = 4;                      // channels in shared memory at a time, in `gather`

// Row and group pitches in floats. With these pitches, eight neighbouring threads that read 16 bytes each access all
// 32 banks of shared memory, or the same address, so that there are no bank conflicts.
constexpr int CENTRE_PITCH = GROUPS * PIXELS + 4;
constexpr int GROUP_PITCH = REACH + 4;
constexpr int HALO_PITCH = GROUPS * GROUP_PITCH;
constexpr int PARTIAL_SIZE = ROWS * WINDOW * CENTRE_PITCH;
constexpr int CORRELATE_SIZE = CORRELATED * (ROWS * CENTRE_PITCH + HALO_ROWS * HALO_PITCH);
constexpr int GATHER_SIZE = GATHERED * (HALO_ROWS * HALO_PITCH + PARTIAL_SIZE);
constexpr int SCRATCH_SIZE = CORRELATE_SIZE > GATHER_SIZE ? CORRELATE_SIZE : GATHER_SIZE;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void store(float* to, float x) { *to = x; }
__device__ inline void store(__half* to, float x) { *to = __float2half(x); }
__device__ inline void store(__nv_bfloat16* to, float x) { *to = __float2bfloat16(x); }

struct Shape {
    int channels, height, width, radius, dilation;
    __device__ int side() const { return 2 * radius + 1; }
    __device__ int window_blocks() const { return (side() + WINDOW - 1) / WINDOW; }
    __device__ bool inside(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }
    __device__ long long area() const { return (long long)height * width; }
    __device__ long long pixel(int y, int x) const { return (long long)y * width + x; }
};

// Dense features [B, C, h, w], either contiguous or channels-last; `data` points to the block's image. The argument
// `channels_last` is 0 for contiguous features, 1 for channels-last, and 2 for channels-last features whose pixels
// are aligned to 16 bytes and have a multiple of CORRELATED channels.
template <typename T>
struct Features {
    const T* data;
    long long channel_step, pixel_step;
    bool vectors;
    __device__ Features(const T* all, int channels_last, int batch, const Shape& shape)
        : data(all + batch * shape.channels * shape.area()),
          channel_step(channels_last ? 1 : shape.area()),
          pixel_step(channels_last ? shape.channels : 1),
          vectors(channels_last == 2) {}
};

// An axis is covered by runs of `count` points with distance `step`: first the runs of all residues, then those of the
// next block. Return the first point of a run.
__device__ inline int run_start(int run, int step, int count) {
    return run / step * step * count + run % step;
}

// Return the number of runs that cover an axis.
__device__ inline int runs(int extent, int step, int count) {
    const int rest = extent % (step * count);
    return extent / (step * count) * step + (rest < step ? rest : step);
}

// The image and the centres of the block, and the centres and the row of displacements of the thread.
struct Place {
    int batch, first_row, group, window_row, row;
    int* columns;  // in shared memory: first column of each group, outside the image for surplus groups
    int* pixels;   // in shared memory: space for the result of `locate`
    int x;         // first column of this thread's group

    __device__ Place(const Shape& shape, int* group_columns, int* located)
        : group(threadIdx.x % GROUPS), window_row(threadIdx.x / GROUPS % WINDOW),
          row(threadIdx.x / (GROUPS * WINDOW)), columns(group_columns), pixels(located) {
        const int row_runs = runs(shape.height, shape.dilation, ROWS);
        const int column_runs = runs(shape.width, shape.dilation, PIXELS);
        const int column_blocks = (column_runs + GROUPS - 1) / GROUPS;
        const int first_group = blockIdx.x % column_blocks * GROUPS;
        first_row = run_start(blockIdx.x / column_blocks % row_runs, shape.dilation, ROWS);
        batch = blockIdx.x / column_blocks / row_runs;
        const int run = first_group + group;
        x = run < column_runs ? run_start(run, shape.dilation, PIXELS) : shape.width;
        if (threadIdx.x < GROUPS) columns[group] = x;  // read after the first barrier
    }
    __device__ int y(const Shape& shape) const { return first_row + row * shape.dilation; }
};

// The position of the current 9 x 9 displacements in the whole window, in units of displacements.
struct Window {
    int y, x;
    __device__ Window(int block, const Shape& shape)
        : y(block / shape.window_blocks() * WINDOW), x(block % shape.window_blocks() * WINDOW) {}
    __device__ int dy(const Shape& shape) const { return (y - shape.radius) * shape.dilation; }
    __device__ int dx(const Shape& shape) const { return (x - shape.radius) * shape.dilation; }
    // Return whether column d of the thread's row of displacements is part of the window.
    __device__ bool has(const Place& place, int d, const Shape& shape) const {
        return y + place.window_row < shape.side() && x + d < shape.side();
    }
};

__device__ inline void read(float* to, const float* from, int count) {
    for (int i = 0; i < count; i += 4) {
        const float4 four = *reinterpret_cast<const float4*>(from + i);
        to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
}

__device__ inline void write(float* to, const float* from, int count) {
    for (int i = 0; i < count; i += 4)
        *reinterpret_cast<float4*>(to + i) = make_float4(from[i], from[i + 1], from[i + 2], from[i + 3]);
}

// Load COUNT neighbouring values by loads of 16 bytes, or by one smaller load; `from` has this alignment.
template <int COUNT, typename T>
__device__ void load(float (&to)[COUNT], const T* from) {
    constexpr int EACH = COUNT * sizeof(T) < 16 ? COUNT : 16 / sizeof(T);
    struct alignas(EACH * sizeof(T)) Packed {
        T value[EACH];
    };
#pragma unroll
    for (int i = 0; i < COUNT; i += EACH) {
        const Packed packed = *reinterpret_cast<const Packed*>(from + i);
#pragma unroll
        for (int j = 0; j < EACH; ++j) to[i + j] = to_float(packed.value[j]);
    }
}

// Compute the pixel indices of a tile of TILE_ROWS rows with COUNT points for each group. The points have the distance
// `dilation` and begin at row y and column (x of the group + dx). The index of a point outside the image is -1. The
// indices are the same for all channels.
template <int TILE_ROWS, int COUNT>
__device__ void locate(int* pixels, int y, int dx, const Place& place, const Shape& shape) {
#pragma unroll 1
    for (int e = threadIdx.x; e < TILE_ROWS * GROUPS * COUNT; e += THREADS) {
        const int py = y + e / (GROUPS * COUNT) * shape.dilation;
        const int px = place.columns[e / COUNT % GROUPS] + dx + e % COUNT * shape.dilation;
        pixels[e] = shape.inside(py, px) ? py * shape.width + px : -1;
    }
}

// Copy channels first_channel ... first_channel + CHANNELS - 1 of located pixels to a tile, with zeros outside of the
// features. A thread copies all these channels of a pixel. Channels-last features are read as vectors; contiguous
// features are read coalesced, because neighbouring threads read neighbouring pixels.
template <int CHANNELS, int TILE_ROWS, int COUNT, int POINT_GROUP_PITCH, int ROW_PITCH, typename T>
__device__ void fill(float* tile, const int* pixels, const Features<T>& from, int first_channel,
                     const Shape& shape) {
    const T* data = from.data + first_channel * from.channel_step;
    const int channels = shape.channels - first_channel;
#pragma unroll 1
    for (int e = threadIdx.x; e < TILE_ROWS * GROUPS * COUNT; e += THREADS) {
        const int pixel = pixels[e];
        float value[CHANNELS] = {};
        if (pixel >= 0 && from.vectors) load(value, data + pixel * from.pixel_step);
        if (pixel >= 0 && !from.vectors) {
            const T* one = data + pixel * from.pixel_step;
#pragma unroll
            for (int k = 0; k < CHANNELS; ++k, one += from.channel_step)
                if (k < channels) value[k] = to_float(*one);
        }
        float* to = tile + e / (GROUPS * COUNT) * ROW_PITCH + e / COUNT % GROUPS * POINT_GROUP_PITCH + e % COUNT;
#pragma unroll
        for (int k = 0; k < CHANNELS; ++k) to[k * TILE_ROWS * ROW_PITCH] = value[k];
    }
}

// sum[i][d] = mean over channels of centre(pixel i) * displaced(pixel i + displacement d).
template <typename T>
__device__ void correlate(float (&sum)[PIXELS][WINDOW], const Features<T>& centre, const Features<T>& displaced,
                          const Window& window, const Place& place, const Shape& shape, float* scratch) {
    float* halo = scratch + CORRELATED * ROWS * CENTRE_PITCH;
    int* pixels = place.pixels;
    int* halo_pixels = pixels + CENTRE_POINTS;
#pragma unroll
    for (int i = 0; i < PIXELS; ++i)
#pragma unroll
        for (int d = 0; d < WINDOW; ++d) sum[i][d] = 0.0f;
    __syncthreads();
    locate<ROWS, PIXELS>(pixels, place.first_row, 0, place, shape);
    locate<HALO_ROWS, REACH>(halo_pixels, place.first_row + window.dy(shape), window.dx(shape), place, shape);
#pragma unroll 1
    for (int channel = 0; channel < shape.channels; channel += CORRELATED) {
        __syncthreads();
        fill<CORRELATED, ROWS, PIXELS, PIXELS, CENTRE_PITCH>(scratch, pixels, centre, channel, shape);
        fill<CORRELATED, HALO_ROWS, REACH, GROUP_PITCH, HALO_PITCH>(halo, halo_pixels, displaced, channel, shape);
        __syncthreads();
#pragma unroll 2
        for (int k = 0; k < CORRELATED; ++k) {
            float a[PIXELS], b[REACH];
            read(a, scratch + (k * ROWS + place.row) * CENTRE_PITCH + place.group * PIXELS, PIXELS);
            read(b, halo + (k * HALO_ROWS + place.row + place.window_row) * HALO_PITCH + place.group * GROUP_PITCH,
                 REACH);
#pragma unroll
            for (int i = 0; i < PIXELS; ++i)
#pragma unroll
                for (int d = 0; d < WINDOW; ++d) sum[i][d] += a[i] * b[i + d];
        }
    }
    const float scale = 1.0f / shape.channels;
#pragma unroll
    for (int i = 0; i < PIXELS; ++i)
#pragma unroll
        for (int d = 0; d < WINDOW; ++d) sum[i][d] *= scale;
}

// part[i] = sum over the thread's row of displacements of weight[i][d] * value[i + d].
__device__ inline void weigh(float (&part)[PIXELS], const float (&weight)[PIXELS][WINDOW],
                             const float (&value)[REACH]) {
#pragma unroll
    for (int i = 0; i < PIXELS; ++i) {
        part[i] = 0.0f;
#pragma unroll
        for (int d = 0; d < WINDOW; ++d) part[i] += weight[i][d] * value[i + d];
    }
}

// out(channel, centre) (+)= mean over channels' scale * sum over displacements of weight * displaced(channel).
template <typename T>
__device__ void gather(T* out, bool add, const float (&weight)[PIXELS][WINDOW], const Features<T>& displaced,
                       const Window& window, const Place& place, const Shape& shape, float* scratch) {
    float* partial = scratch + GATHERED * HALO_ROWS * HALO_PITCH;
    const float scale = 1.0f / shape.channels;
    __syncthreads();
    locate<HALO_ROWS, REACH>(place.pixels, place.first_row + window.dy(shape), window.dx(shape), place, shape);
#pragma unroll 1
    for (int channel = 0; channel < shape.channels; channel += GATHERED) {
        __syncthreads();
        fill<GATHERED, HALO_ROWS, REACH, GROUP_PITCH, HALO_PITCH>(scratch, place.pixels, displaced, channel, shape);
        __syncthreads();
#pragma unroll 2
        for (int k = 0; k < GATHERED; ++k) {
            float b[REACH], part[PIXELS];
            read(b, scratch + (k * HALO_ROWS + place.row + place.window_row) * HALO_PITCH + place.group * GROUP_PITCH,
                 REACH);
            weigh(part, weight, b);
            write(partial + k * PARTIAL_SIZE + (place.row * WINDOW + place.window_row) * CENTRE_PITCH +
                      place.group * PIXELS,
                  part, PIXELS);
        }
        __syncthreads();
#pragma unroll 1
        for (int e = threadIdx.x; e < GATHERED * ROWS * GROUPS * PIXELS; e += THREADS) {
            const int i = e % PIXELS, group = e / PIXELS % GROUPS, row = e / (PIXELS * GROUPS) % ROWS;
            const int k = e / (PIXELS * GROUPS * ROWS);
            const int y = place.first_row + row * shape.dilation, x = place.columns[group] + i * shape.dilation;
            if (channel + k >= shape.channels || !shape.inside(y, x)) continue;
            const float* rows = partial + k * PARTIAL_SIZE + row * WINDOW * CENTRE_PITCH + group * PIXELS + i;
            float sum = 0.0f;
            for (int w = 0; w < WINDOW; ++w) sum += rows[w * CENTRE_PITCH];
            T* to = out + ((long long)place.batch * shape.channels + channel + k) * shape.area() + shape.pixel(y, x);
            store(to, sum * scale + (add ? to_float(*to) : 0.0f));
        }
    }
}

// Reduce the values of the nine threads of a group of centres to their sum or maximum, and return it to all of them.
template <bool LARGEST>
__device__ void across_rows(float (&value)[PIXELS], const Place& place, float* scratch) {
    float* rows = scratch + place.row * WINDOW * CENTRE_PITCH + place.group * PIXELS;
    __syncthreads();
    write(rows + place.window_row * CENTRE_PITCH, value, PIXELS);
    __syncthreads();
    read(value, rows, PIXELS);
#pragma unroll 1
    for (int w = 1; w < WINDOW; ++w) {
        float other[PIXELS];
        read(other, rows + w * CENTRE_PITCH, PIXELS);
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) value[i] = LARGEST ? fmaxf(value[i], other[i]) : value[i] + other[i];
    }
}

// value[i] = plane(y, x + i * dilation), with zeros outside of the plane.
template <int COUNT, typename T>
__device__ void along(float (&value)[COUNT], const T* plane, int y, int x, const Shape& shape) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        const int px = x + i * shape.dilation;
        value[i] = shape.inside(y, px) ? to_float(plane[shape.pixel(y, px)]) : 0.0f;
    }
}

// volume [B, side^2, h, w] = correlation of target and reference.
template <typename T>
__device__ void correlation_forward(const Features<T>& target, const Features<T>& reference, T* volume,
                                    const Place& place, const Shape& shape, float* scratch) {
    const int y = place.y(shape), side = shape.side();
#pragma unroll 1
    for (int block = 0; block < shape.window_blocks() * shape.window_blocks(); ++block) {
        const Window window(block, shape);
        float sum[PIXELS][WINDOW];
        correlate(sum, target, reference, window, place, shape, scratch);
        const int first = (window.y + place.window_row) * side + window.x;
        for (int d = 0; d < WINDOW; ++d) {
            T* plane = volume + ((long long)place.batch * side * side + first + d) * shape.area();
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) {
                const int x = place.x + i * shape.dilation;
                if (window.has(place, d, shape) && shape.inside(y, x)) store(plane + shape.pixel(y, x), sum[i][d]);
            }
        }
    }
}

// Compute from grad [B, side^2, h, w] the gradient of the target (`displaced` is the reference) or, with `transposed`,
// the gradient of the reference (`displaced` is the target). Both are the same sum over the window, with the roles of
// the two pixels of each displacement exchanged.
template <typename T>
__device__ void correlation_backward(const T* grad, const Features<T>& displaced, T* out, bool transposed,
                                     const Place& place, const Shape& shape, float* scratch) {
    const int y = place.y(shape), side = shape.side();
#pragma unroll 1
    for (int block = 0; block < shape.window_blocks() * shape.window_blocks(); ++block) {
        const Window window(block, shape);
        const int dy = window.dy(shape) + place.window_row * shape.dilation;
        const int first = (window.y + place.window_row) * side + window.x;
        float weight[PIXELS][WINDOW];
#pragma unroll
        for (int d = 0; d < WINDOW; ++d) {
            const int index = transposed ? side * side - 1 - (first + d) : first + d;
            const T* plane = grad + ((long long)place.batch * side * side + index) * shape.area();
            const int dx = window.dx(shape) + d * shape.dilation;
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) {
                const int py = y + (transposed ? dy : 0), px = place.x + i * shape.dilation + (transposed ? dx : 0);
                const bool there = window.has(place, d, shape) && shape.inside(py, px);
                weight[i][d] = there ? to_float(plane[shape.pixel(py, px)]) : 0.0f;
            }
        }
        gather(out, block > 0, weight, displaced, window, place, shape, scratch);
    }
}

// moved [B, N, h, w] = sum over the window of softmax(correlation) * mask; log_sum [B, h, w] = log of the softmax's
// denominator. If the window consists of several blocks, the accumulated sums are rescaled whenever the maximum of the
// correlation increases (online softmax).
template <typename T>
__device__ void local_transfer_forward(const Features<T>& target, const Features<T>& reference, const T* mask,
                                       float* moved, float* log_sum, int masks, const Place& place,
                                       const Shape& shape, float* scratch) {
    const float infinity = __int_as_float(0x7f800000);
    const int y = place.y(shape);
    const bool writer = place.window_row == 0;
    float peak[PIXELS], norm[PIXELS];
    for (int i = 0; i < PIXELS; ++i) peak[i] = -infinity, norm[i] = 0.0f;
#pragma unroll 1
    for (int block = 0; block < shape.window_blocks() * shape.window_blocks(); ++block) {
        const Window window(block, shape);
        float weight[PIXELS][WINDOW], top[PIXELS], part[PIXELS], shrink[PIXELS];
        correlate(weight, target, reference, window, place, shape, scratch);
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            top[i] = -infinity;
#pragma unroll
            for (int d = 0; d < WINDOW; ++d)
                if (window.has(place, d, shape)) top[i] = fmaxf(top[i], weight[i][d]);
        }
        across_rows<true>(top, place, scratch);
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            top[i] = fmaxf(peak[i], top[i]);
            shrink[i] = expf(peak[i] - top[i]);
            peak[i] = top[i];
            part[i] = 0.0f;
#pragma unroll
            for (int d = 0; d < WINDOW; ++d) {
                weight[i][d] = window.has(place, d, shape) ? expf(weight[i][d] - top[i]) : 0.0f;
                part[i] += weight[i][d];
            }
        }
        across_rows<false>(part, place, scratch);
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) norm[i] = norm[i] * shrink[i] + part[i];
#pragma unroll 1
        for (int n = 0; n < masks; ++n) {
            const long long plane = ((long long)place.batch * masks + n) * shape.area();
            float value[REACH];
            along(value, mask + plane, y + window.dy(shape) + place.window_row * shape.dilation,
                  place.x + window.dx(shape), shape);
            weigh(part, weight, value);
            across_rows<false>(part, place, scratch);
            for (int i = 0; i < PIXELS; ++i) {
                const int x = place.x + i * shape.dilation;
                if (!writer || !shape.inside(y, x)) continue;
                float* to = moved + plane + shape.pixel(y, x);
                *to = part[i] + (block > 0 ? *to * shrink[i] : 0.0f);
            }
        }
    }
    for (int i = 0; i < PIXELS; ++i) {
        const int x = place.x + i * shape.dilation;
        if (!writer || !shape.inside(y, x)) continue;
        const float scale = 1.0f / norm[i];
        log_sum[place.batch * shape.area() + shape.pixel(y, x)] = peak[i] + logf(norm[i]);
#pragma unroll 1
        for (int n = 0; n < masks; ++n)
            moved[((long long)place.batch * masks + n) * shape.area() + shape.pixel(y, x)] *= scale;
    }
}

// Compute the gradient of the centre's features. These are the target's features or, with TRANSPOSED, the reference's
// features; the gradient of the masks is computed only with TRANSPOSED. The weight of the displacement from a target
// pixel p to q is w = exp(correlation - log_sum(p)); its gradient is w * (sum over masks of grad(p) * mask(q) -
// delta(p)), with delta = sum over masks of grad * moved. `centre_map` is the grad and `displaced_map` the mask, or
// with TRANSPOSED vice versa. An output whose pointer is null is not computed.
template <bool TRANSPOSED, typename T>
__device__ void local_transfer_backward(const Features<T>& centre, const Features<T>& displaced,
                                        const T* centre_map, const T* displaced_map, const float* log_sum,
                                        const float* delta, T* out, float* mask_out, int masks, const Place& place,
                                        const Shape& shape, float* scratch) {
    constexpr int COUNT = TRANSPOSED ? REACH : PIXELS;
    const int y = place.y(shape);
#pragma unroll 1
    for (int block = 0; block < shape.window_blocks() * shape.window_blocks(); ++block) {
        const Window window(block, shape);
        const int dy = window.dy(shape) + place.window_row * shape.dilation, dx = window.dx(shape);
        const int target_y = y + (TRANSPOSED ? dy : 0), target_x = place.x + (TRANSPOSED ? dx : 0);
        const long long image = place.batch * shape.area();
        float weight[PIXELS][WINDOW];
        correlate(weight, centre, displaced, window, place, shape, scratch);
        float known[COUNT];  // log_sum of the target pixels, then their delta
        along(known, log_sum + image, target_y, target_x, shape);
#pragma unroll
        for (int i = 0; i < PIXELS; ++i)
#pragma unroll
            for (int d = 0; d < WINDOW; ++d)
                weight[i][d] =
                    window.has(place, d, shape) ? expf(weight[i][d] - known[TRANSPOSED ? i + d : i]) : 0.0f;
#pragma unroll 1
        for (int n = 0; mask_out != nullptr && n < masks; ++n) {
            const long long plane = ((long long)place.batch * masks + n) * shape.area();
            float value[REACH], part[PIXELS];
            along(value, displaced_map + plane, y + dy, place.x + dx, shape);
            weigh(part, weight, value);
            across_rows<false>(part, place, scratch);
            for (int i = 0; i < PIXELS; ++i) {
                const int x = place.x + i * shape.dilation;
                if (place.window_row != 0 || !shape.inside(y, x)) continue;
                float* to = mask_out + plane + shape.pixel(y, x);
                *to = part[i] + (block > 0 ? *to : 0.0f);
            }
        }
        if (out == nullptr) continue;
        along(known, delta + image, target_y, target_x, shape);
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            float change[WINDOW];
#pragma unroll
            for (int d = 0; d < WINDOW; ++d) change[d] = -known[TRANSPOSED ? i + d : i];
#pragma unroll 1
            for (int n = 0; n < masks; ++n) {
                const long long plane = ((long long)place.batch * masks + n) * shape.area();
                const int x = place.x + i * shape.dilation;
                float own[1], met[WINDOW];
                along(own, centre_map + plane, y, x, shape);
                along(met, displaced_map + plane, y + dy, x + dx, shape);
#pragma unroll
                for (int d = 0; d < WINDOW; ++d) change[d] += own[0] * met[d];
            }
#pragma unroll
            for (int d = 0; d < WINDOW; ++d) weight[i][d] *= change[d];
        }
        gather(out, block > 0, weight, displaced, window, place, shape, scratch);
    }
}

// Common definitions of all kernels. With three blocks per multiprocessor, a thread has 128 registers, which is enough
// for its 72 sums and their operands.
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 3)
#define SHAPE_ARGUMENTS int channels, int height, int width, int radius, int dilation
#define SET_UP                                                        \
    alignas(16) __shared__ float scratch[SCRATCH_SIZE];           \
    __shared__ int group_columns[GROUPS];                         \
    __shared__ int located[CENTRE_POINTS + HALO_POINTS];          \
    const Shape shape{channels, height, width, radius, dilation}; \
    const Place place(shape, group_columns, located)

#ifdef WITH_CORRELATION
KERNEL correlation(const SCALAR* target, int target_last, const SCALAR* reference, int reference_last,
                   SCALAR* volume, SHAPE_ARGUMENTS) {
    SET_UP;
    correlation_forward(Features<SCALAR>(target, target_last, place.batch, shape),
                        Features<SCALAR>(reference, reference_last, place.batch, shape), volume, place, shape,
                        scratch);
}
#endif

#ifdef WITH_CORRELATION_GRADIENT
KERNEL correlation_gradient(const SCALAR* grad, const SCALAR* displaced, int displaced_last, SCALAR* out,
                            int transposed, SHAPE_ARGUMENTS) {
    SET_UP;
    correlation_backward(grad, Features<SCALAR>(displaced, displaced_last, place.batch, shape), out,
                         transposed != 0, place, shape, scratch);
}
#endif

#ifdef WITH_LOCAL_TRANSFER
KERNEL local_transfer(const SCALAR* target, int target_last, const SCALAR* reference, int reference_last,
                      const SCALAR* mask, float* moved, float* log_sum, int masks, SHAPE_ARGUMENTS) {
    SET_UP;
    local_transfer_forward(Features<SCALAR>(target, target_last, place.batch, shape),
                           Features<SCALAR>(reference, reference_last, place.batch, shape), mask, moved, log_sum,
                           masks, place, shape, scratch);
}
#endif

#ifdef WITH_LOCAL_TRANSFER_TARGET_GRADIENT
KERNEL local_transfer_target_gradient(const SCALAR* target, int target_last, const SCALAR* reference,
                                      int reference_last, const SCALAR* mask, const SCALAR* grad,
                                      const float* log_sum, const float* delta, SCALAR* out, int masks,
                                      SHAPE_ARGUMENTS) {
    SET_UP;
    local_transfer_backward<false>(Features<SCALAR>(target, target_last, place.batch, shape),
                                   Features<SCALAR>(reference, reference_last, place.batch, shape), grad, mask,
                                   log_sum, delta, out, nullptr, masks, place, shape, scratch);
}
#endif

#ifdef WITH_LOCAL_TRANSFER_REFERENCE_GRADIENT
KERNEL local_transfer_reference_gradient(const SCALAR* target, int target_last, const SCALAR* reference,
                                         int reference_last, const SCALAR* mask, const SCALAR* grad,
                                         const float* log_sum, const float* delta, SCALAR* out, float* mask_out,
                                         int masks, SHAPE_ARGUMENTS) {
    SET_UP;
    local_transfer_backward<true>(Features<SCALAR>(reference, reference_last, place.batch, shape),
                                  Features<SCALAR>(target, target_last, place.batch, shape), mask, grad, log_sum,
                                  delta, out, mask_out, masks, place, shape, scratch);
}
#endif
