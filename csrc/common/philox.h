// Philox 4x32 with 10 rounds: random numbers as a function of a seed and a counter, so that every backend and
// any number of threads make the same ones. Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
#pragma once

#include <cstdint>

#include "common/hd.h"

namespace gcv {

struct PhiloxWords {
  uint32_t word[4];
};

GCV_HD PhiloxWords philox(uint64_t seed, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  auto key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t(0xD2511F53u) * c0, product1 = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(product1 >> 32) ^ c1 ^ key0;
    c1 = uint32_t(product1);
    c2 = uint32_t(product0 >> 32) ^ c3 ^ key1;
    c3 = uint32_t(product0);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// An odd multiple of 2^-24, between 0 and 1 and neither: exact in fp32, as its distance to 1 is.
GCV_HD float uniform_of(uint32_t word) { return float(int32_t(word >> 8 | 1)) * 0x1p-24f; }

// What sampling a pixel draws on: numbers 4 * block ... 4 * block + 3 of pixel `pixel` of image `image`. A
// sample thus depends on nothing but the seed and its place: not on the batch, nor on the order of work.
GCV_HD PhiloxWords pixel_noise(uint64_t seed, int64_t image, int64_t pixel, int64_t block) {
  return philox(seed, uint32_t(pixel), uint32_t(block), uint32_t(image), uint32_t(uint64_t(image) >> 32));
}

}  // namespace gcv
