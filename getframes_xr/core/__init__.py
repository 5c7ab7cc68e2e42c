"""The ground floor: errors, options, words, windows, patches, random numbers of a place, the kernel decorator."""
