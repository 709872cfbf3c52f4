// SPDX-License-Identifier: BSD-2-Clause
/*
 * Images: the stack of drivers under one disk, and the checked calls through which everything above reaches it.
 *
 * An image is one instance of a driver. A leaf talks to files; a filter or a format talks to its child image, never
 * to a descriptor, so a filter can stand above or below a format.  An image may also have a backing image, to which
 * whatever this layer does not hold is deferred; backing images are opened, walked and closed by image.c and chain.c
 * one after the other, never by recursion, so a chain of any length fits a coroutine's stack.
 *
 *	top ──child──► ... ──child──► leaf
 *	 └─backing─► image below ──child──► leaf
 *	                └─backing─► ...
 *
 * Errors: 0 or -errno.  -EUCLEAN: the image breaks its format.  -EIO: the storage failed.  -ENOTSUP: valid, but not
 * ours, or a slot the driver does not have.  -EINVAL: range outside the image.  -EROFS: a write to a read-only image.
 */
#ifndef BLKTAP_IMAGE_H
#define BLKTAP_IMAGE_H

#include <blktap/base.h>

struct td_engine;
struct td_err;
struct iovec;
struct td_iov;
struct td_made;
struct td_loop;
struct td_opts;
struct td_policy;
struct td_pool;
struct td_spec;
struct td_image;

/*
 * Standard output as a file that only becomes longer.  Its first bytes can be read and changed until more than these
 * is written to an image that is open with TD_OPEN_ONCE; only then do they leave.
 */
#define TD_STDOUT_HEAD (64u << 10)
struct td_stdout {
	uint8_t head[TD_STDOUT_HEAD];
	uint64_t end; /* bytes so far */
	bool sent;    /* head has left */
};

/* What drivers run on.  One for each thread that owns images; outlives them. */
struct td_env {
	struct td_loop *loop;
	struct td_engine *engine;
	struct td_pool *pool;
	const struct td_policy *policy; /* NULL: only files that the user named */
	const char *keep_dir; /* where what is not in an image yet outlives us (keep.h); NULL: nowhere */

	struct td_stdout *out; /* what the driver stdout may write to; NULL: it may not */

	/* Something that a person should know of though no call failed; one line.  NULL: nobody listens. */
	void (*notice)(const char *line);
};

/* Flags of td_image_open. */
#define TD_OPEN_RDONLY   0x01u /* nothing is written, not even a dirty bit; image and chain */
#define TD_OPEN_BACKING  0x02u /* opened for an overlay: implies RDONLY, shares the file with other readers */
#define TD_OPEN_GROW     0x04u /* the caller is a format: writes may extend the image (leaf and filters) */
#define TD_OPEN_NO_LOCK  0x08u /* take no lock on the file: for info on a disk in use */
#define TD_OPEN_NO_CHAIN 0x10u /* leave the backing image closed: for info, rebase */
#define TD_OPEN_CHECK    0x20u /* for check and repair: do not repair at open, accept dirty and corrupt bits */
#define TD_OPEN_BASE     0x40u /* a backing image that is opened for writing: set by td_image_open_base alone */
#define TD_OPEN_PART     0x80u  /* a further file of an image, named in it: set by td_image_open_part alone */
#define TD_OPEN_ONCE     0x100u /* the caller obeys limits.once, which is false without this flag */

/* Flags of the data calls. */
#define TD_FUA       0x01u /* write, zero: on stable storage before the call returns */
#define TD_EXACT     0x02u /* read: the end of the file inside the range is -EUCLEAN, not zeros (metadata) */
#define TD_MAY_UNMAP 0x04u /* zero: space may be given back */
#define TD_FAST      0x08u /* zero: -ENOTSUP rather than writing zeros out */
/*
 * Write: keep it compressed.  Whole clusters (limits.cluster_size), but for the last, which may end with the image;
 * -EINVAL else.  What does not become smaller is written as it is; -ENOTSUP: not limits.compresses.
 */
#define TD_COMPRESS 0x10u
/* Zero: by this layer's own word, also where what is below it reads as zeros: the backing image is going to change. */
#define TD_OWN 0x20u

/* Flags of td_image_resize. */
#define TD_RESIZE_SHRINK 0x01u /* it may become smaller; what is behind the new end is lost */

enum td_extent_kind {
	TD_EXTENT_DATA,    /* bytes of this layer */
	TD_EXTENT_ZERO,    /* reads as zeros by this layer's word, whatever is below */
	TD_EXTENT_BACKING, /* not in this layer: the backing image decides; zeros if there is none */
};

struct td_extent {
	enum td_extent_kind kind;
	bool allocated;    /* ZERO: space is kept for it.  DATA: always true */
	bool packed;       /* DATA: it is kept compressed */
	bool has_host;     /* host_off is known, and what is there are the bytes as they are */
	uint64_t host_off; /* where in the file of the layer that holds it */
	const char *path;  /* of that file, if it is not the layer's own; as long as the image is open */
	uint64_t len;      /* bytes from the asked offset on; 1..asked */

	/* Added by chain.c; a driver leaves them alone. */
	bool held;      /* a layer holds it; false: zeros because the chain has ended */
	unsigned depth; /* how many layers down that one is, or the last that was asked */
};

/* What a driver knows of its image; fixed at open but for resize. */
struct td_limits {
	uint32_t block_size;   /* the alignment at which it is fastest and atomic: 512, 4096 ... */
	uint32_t mem_align;    /* of buffers, so that nothing is bounced */
	uint64_t max_transfer; /* bytes in one preadv or pwritev; image.c cuts longer ones up; 0: no limit */
	uint32_t trim_granularity; /* 0: no trim */
	bool zero_efficient;       /* zero() is cheaper than writing */
	uint32_t cluster_size;     /* the unit in which a format maps and allocates; 0: there is none */
	bool device;               /* it is as long as it is: what a format has not used of it is no leak */
	bool compresses;           /* TD_COMPRESS is obeyed; of others image.c refuses it */

	/*
	 * Each cluster is written once at most, with writes of whole ones that begin in the order of the disk, and
	 * nothing is read.  Zeros are found and left out.  It is a disk once it was closed without an error;
	 * td_image_freeze before that leaves it without an end, by which every reader knows.
	 */
	bool once;
};

struct td_image_stats {
	uint64_t reads, writes, zeros, trims, flushes;
	uint64_t read_bytes, write_bytes;
	uint64_t errors;
};

enum td_snap_op { TD_SNAP_CREATE, TD_SNAP_APPLY, TD_SNAP_DELETE };

/* A snapshot inside an image. */
struct td_snap {
	char *id, *name; /* as the image has them, cut behind a few hundred bytes */
	uint64_t disk_size;
	uint64_t vm_state_size; /* bytes of a virtual machine's memory and devices; 0: of the disk alone */
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_nsec; /* how long the machine had run */
	bool has_icount;
	uint64_t icount; /* instructions that it had run */
};

struct td_snaps {
	size_t nr;
	struct td_snap *at;
};

/*
 * What a check found, and what is left after a repair.  Zero but for the callbacks before td_image_check.  The counters
 * are those of qemu-img check, and count as it does: a cluster whose refcount is wrong is one, whatever the difference.
 */
struct td_check {
	uint64_t leaks;       /* clusters that are kept and that nothing refers to: wasted space, no harm */
	uint64_t corruptions; /* what may lose data, or has */
	uint64_t errors;      /* what could not be checked */
	uint64_t leaks_fixed, corruptions_fixed;
	uint64_t clusters, allocated; /* of the virtual disk; allocated in this layer */
	uint64_t fragmented, compressed;
	uint64_t image_end;                          /* bytes of the file that are in use */
	void (*report)(void *arg, const char *line); /* one finding; may be NULL */
	void (*progress)(void *arg, uint64_t done,
			 uint64_t total); /* bytes, of now and then more; may be NULL */
	void *report_arg;                 /* of both */
	unsigned told;                    /* findings; td_check_say's */
};

/* What to repair: leaks alone, or all that can be.  Both want an image opened with TD_OPEN_CHECK. */
#define TD_FIX_LEAKS 0x01u
#define TD_FIX_ALL   0x03u

/*
 * A dirty bitmap has a bit for each `granularity` bytes of the disk: set, once something in there was written while the
 * bitmap was enabled.
 */
enum td_bitmap_what {
	TD_BITMAP_ADD, /* enabled, and no bit set */
	TD_BITMAP_REMOVE,
	TD_BITMAP_CLEAR,
	TD_BITMAP_ENABLE,
	TD_BITMAP_DISABLE,
	TD_BITMAP_MERGE, /* set all bits that another one has, of the same size of disk */
};

struct td_bitmap_op {
	enum td_bitmap_what what;
	const char *name;
	uint64_t granularity;  /* ADD: bytes, a power of two; 0: as the driver likes */
	struct td_image *from; /* MERGE: the other one's image */
	const char *from_name;
};

struct td_bitmap_info {
	char *name;
	uint64_t granularity; /* bytes */
	bool enabled;         /* it records */
	bool in_use;          /* what is stored of it is outdated */
	bool valid;           /* it can be asked; not if whoever used it last did not store it */
};

struct td_bitmap_list {
	unsigned nr;
	struct td_bitmap_info *at;
};

#define TD_COUNTERS_MAX 32

struct td_counters {
	unsigned nr;
	struct {
		const char *name; /* static; sizes are bytes, names in _ns are times */
		uint64_t value;
	} counter[TD_COUNTERS_MAX];
};

/* In a driver's counters(): add one.  What is more than TD_COUNTERS_MAX is left out. */
static inline void td_counter(struct td_counters *c, const char *name, uint64_t value)
{
	if (c->nr < TD_COUNTERS_MAX) {
		c->counter[c->nr].name = name;
		c->counter[c->nr++].value = value;
	}
}

/* Who wants to know how far a long call is: `done` of `total`, in bytes; embedded in something of the caller's. */
struct td_progress {
	void (*fn)(const struct td_progress *p, uint64_t done, uint64_t total);
};

/* Making a new image. */
struct td_create {
	struct td_env *env;
	const char *path;       /* leaf: the file to make */
	struct td_image *child; /* format: where to write, opened with TD_OPEN_GROW, empty */
	uint64_t size;          /* virtual bytes */
	struct td_opts *opts;
	bool force;           /* leaf and parts: overwrite what is there */
	const char *called;   /* format: the path that it gets once it is whole; parts are named after it */
	struct td_made *made; /* for td_image_create_part */
	struct td_opts *spec_opts;          /* those of the specification, as for open */
	const struct td_progress *progress; /* while zeros are written; may be NULL */
};

/* How large the file of a new image will be. */
struct td_measure {
	struct td_image *source; /* it holds what this image shows, with its chain; NULL: nothing yet */
	uint64_t size;           /* virtual bytes */
	struct td_opts *opts;    /* as for create */

	/* Results: enough for that; enough whatever is written to it, but for snapshots. */
	uint64_t required, fully_allocated;
};

#define TD_LEAF       0x01u /* has a file, no child */
#define TD_FILTER     0x02u /* child has the same bytes and size */
#define TD_FORMAT     0x04u /* child holds the format's file */
#define TD_KNOWS_FUA  0x08u /* pwritev and zero obey TD_FUA; for others image.c flushes */
#define TD_COMPRESSES 0x10u /* pwritev can obey TD_COMPRESS; limits.compresses says of which images */
#define TD_STREAMS    0x20u /* create can make images of limits.once; the child is only appended to */

/*
 * A driver.  A slot left NULL is -ENOTSUP, never passed through.  Slots are called by image.c only, in a coroutine,
 * with ranges checked against im->size (no range wraps, none is empty but flush's), never on a closed image.
 * Data slots may run at the same time as each other; open and close run alone.
 */
struct td_driver {
	const char *name; /* what a specification says */
	unsigned flags;
	size_t state_size; /* im->state: zeroed before open, freed by image.c */

	/* How sure is this driver that it is its format: 0 no .. 100 sure.  Pure. head: the first len bytes. */
	int (*probe)(const void *head, size_t len);

	int (*create)(const struct td_create *c, struct td_err *ret_err);
	int (*measure)(struct td_measure *m, struct td_err *ret_err);

	/*
	 * With TD_COMPRESSES: does an image that create makes with these options obey TD_COMPRESS?  NULL: each does.
	 * No side effects but that the options are used.
	 */
	bool (*compresses)(struct td_opts *opts);

	/*
	 * im->name, path, flags, env and child are set.  Sets size, limits, read_only, and backing_path and
	 * backing_format (strings of its own, freed by image.c) where the image names a backing file.  On failure
	 * it leaves nothing behind in state: close is not called then.
	 */
	int (*open)(struct td_image *im, struct td_opts *opts, struct td_err *ret_err);

	/*
	 * The backing image has been opened, under im->backing: is it the one that this image was made upon?  For
	 * formats that record more of it than a name (a UUID, a content id).  -errno refuses the chain.  Reads only
	 * memory; may be NULL.
	 */
	int (*check_backing)(struct td_image *im, struct td_err *ret_err);

	/*
	 * After the last request.  Writes back what is pending unless read-only or frozen.  The image is gone
	 * afterwards whatever is returned; a failure says that the last state may not be on the disk.
	 */
	int (*close)(struct td_image *im);

	int (*preadv)(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);
	int (*pwritev)(struct td_image *im, uint64_t off, const struct td_iov *iov, unsigned flags);
	int (*zero)(struct td_image *im, uint64_t off, uint64_t len, unsigned flags);
	int (*trim)(struct td_image *im, uint64_t off, uint64_t len);
	int (*flush)(struct td_image *im);

	/* Of this layer alone: BACKING where it holds nothing. */
	int (*extent)(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);

	int (*resize)(struct td_image *im, uint64_t size, struct td_err *ret_err);
	int (*check)(struct td_image *im, unsigned fix, struct td_check *ret);

	/* Snapshots inside the image, in its order; *ret is empty before. */
	int (*snapshots)(struct td_image *im, struct td_snaps *ret, struct td_err *ret_err);

	/*
	 * What td_image_snapshot says.  Requests may be in flight and may come: the driver waits for the ones and lets
	 * the others wait.
	 */
	int (*snapshot)(struct td_image *im, enum td_snap_op op, const char *name,
			const struct td_progress *progress, struct td_err *ret_err);

	/* Options of create, for the image as it is: what can be changed.  Nothing of its contents changes. */
	int (*amend)(struct td_image *im, struct td_opts *opts, const struct td_progress *progress,
		     struct td_err *ret_err);

	/*
	 * Record another backing file, of this format (both NULL: none).  A power cut at any moment leaves the old
	 * pair or the new one.  Nothing of the contents changes, and im->backing stays as it is.
	 */
	int (*set_backing)(struct td_image *im, const char *path, const char *format, struct td_err *ret_err);

	/*
	 * Hold nothing any more, so that all is read from the backing image.  Nothing else is in flight.  A power cut
	 * leaves of each part what was there or nothing.
	 */
	int (*empty)(struct td_image *im, struct td_err *ret_err);

	/* Durable when it returns 0; as before when it does not.  Nothing else is in flight. */
	int (*bitmap)(struct td_image *im, const struct td_bitmap_op *op, struct td_err *ret_err);

	/* Does not yield.  *ret, empty before, is the caller's. */
	int (*bitmaps)(const struct td_image *im, struct td_bitmap_list *ret);

	/* -ENOENT: there is no valid one of this name. */
	int (*bitmap_extent)(struct td_image *im, const char *name, uint64_t off, uint64_t len,
			     bool *ret_dirty, uint64_t *ret_len);

	/* Facts for `info`, as name=value pairs; may be NULL. */
	int (*info)(struct td_image *im, struct td_opts *ret);

	/* ---- of an open image, from a coroutine or not; none may yield; each may be NULL ---- */

	/* Change what can be changed while it is open.  All or nothing; an option that it does not know is -EINVAL. */
	int (*set)(struct td_image *im, struct td_opts *opts, struct td_err *ret_err);

	/* on: somebody waits until no request is left, so none is to be held back on purpose; off: as ever. */
	void (*drain)(struct td_image *im, bool on);

	/* What it counts for itself, for `stats`: caches and the like. */
	void (*counters)(const struct td_image *im, struct td_counters *ret);
};

struct td_image {
	const struct td_driver *drv;
	struct td_env *env;
	struct td_image *child;             /* owned; NULL in a leaf */
	struct td_image *backing;           /* owned; opened by image.c */
	struct td_image *parts, *next_part; /* of td_image_open_part; the driver closes them */
	char *name;                         /* "qcow2 /srv/a.qcow2", for messages */
	char *path;
	char *backing_path, *backing_format; /* as the image says; NULL: none, unknown */
	const struct td_policy *policy;      /* while open() runs: where files that an image names may lie */
	struct td_opts *leaf_opts;           /* while open() runs: how its leaf was opened */
	unsigned flags;                      /* TD_OPEN_* */
	uint64_t size; /* virtual bytes; changed by resize, and by writes under TD_OPEN_GROW */
	struct td_limits limits;
	bool read_only;
	bool frozen;        /* writes are -EIO from here on (td_image_freeze) */
	unsigned in_flight; /* data calls inside the driver */
	struct td_image_stats stats;
	void *state;
};

/* ---- the checked calls ---- */

/*
 * Open a stack and its backing chain.  spec is not kept; its options are marked as used, and one that nobody used is
 * -EINVAL by name.  The image's own directory is allowed for its backing files.
 * *ret_im is the caller's: td_image_close.
 */
TD_CO TD_CHECK int td_image_open(struct td_env *env, struct td_spec *spec, unsigned flags,
				 struct td_image **ret_im, struct td_err *ret_err);

/* The same for one text, parsed and dropped. */
TD_CO TD_CHECK int td_image_open_text(struct td_env *env, const char *spec, unsigned flags,
				      struct td_image **ret_im, struct td_err *ret_err);

/*
 * Open a stack, and one image of its chain for writing: the file that base names, or NULL for the first below the top.
 * *ret_base belongs to *ret_im and is closed with it.  -ENOENT: there is no such image in the chain.
 */
TD_CO TD_CHECK int td_image_open_base(struct td_env *env, struct td_spec *spec, const char *base,
				      unsigned flags, struct td_image **ret_im, struct td_image **ret_base,
				      struct td_err *ret_err);

/*
 * Flush and close the stack and its chain; nothing may be in flight.  NULL is fine. -errno: see driver->close; -EIO of
 * one that is frozen.
 */
TD_CO TD_CHECK int td_image_close(struct td_image *im);

/* Make a new image (not open afterwards).  opts: the create options of the format; unknown ones are refused. */
TD_CO TD_CHECK int td_image_create(struct td_env *env, struct td_spec *spec, uint64_t size,
				   struct td_opts *opts, bool force, struct td_err *ret_err);

/* The same, telling of the zeros that preallocation writes. */
TD_CO TD_CHECK int td_image_create_told(struct td_env *env, struct td_spec *spec, uint64_t size,
					struct td_opts *opts, bool force, const struct td_progress *progress,
					struct td_err *ret_err);

/* Sets m's results for an image of this driver; unknown options are refused. */
TD_CO TD_CHECK int td_image_measure(const struct td_driver *drv, struct td_measure *m,
				    struct td_err *ret_err);

/* For measure(): bytes of the clusters in which source has data. */
TD_CO TD_CHECK int td_measure_data(struct td_image *source, uint64_t cluster, uint64_t *ret);

/* Read iov->len bytes, through the chain. */
TD_CO TD_CHECK int td_image_preadv(struct td_image *im, uint64_t off, const struct td_iov *iov,
				   unsigned flags);

/* TD_FUA where the driver does not know it is a flush after the write.  Beyond the end only under TD_OPEN_GROW. */
TD_CO TD_CHECK int td_image_pwritev(struct td_image *im, uint64_t off, const struct td_iov *iov,
				    unsigned flags);

/* One flat buffer. */
TD_CO TD_CHECK int td_image_pread(struct td_image *im, uint64_t off, void *buf, size_t len, unsigned flags);
TD_CO TD_CHECK int td_image_pwrite(struct td_image *im, uint64_t off, const void *buf, size_t len,
				   unsigned flags);

/*
 * Make it read as zeros.  Falls back to writing zeros unless TD_FAST: then -ENOTSUP, and nothing was changed as far as
 * the format's own tables tell.  If it is the storage that gives up on the way, or the last of several extents, a part
 * may read as zeros by then.
 */
TD_CO TD_CHECK int td_image_zero(struct td_image *im, uint64_t off, uint64_t len, unsigned flags);

/* A hint: the contents are of no use.  What cannot be given back keeps its bytes or reads as zeros. */
TD_CO TD_CHECK int td_image_trim(struct td_image *im, uint64_t off, uint64_t len);

/*
 * All that was written before this call is on stable storage when it returns 0.  So once a flush of the storage has
 * failed, what was written before it may be lost, and none succeeds until the image is opened anew.
 */
TD_CO TD_CHECK int td_image_flush(struct td_image *im);

/*
 * What is at off, through the chain: DATA or ZERO, never BACKING; allocated tells whether the *top* layer holds it.
 * Where no driver knows, DATA.  ret->len bytes have the same answer; more may follow with the same.
 */
TD_CO TD_CHECK int td_image_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);

/*
 * The same of the layers above base, which is in im's chain, alone: BACKING where none of them holds anything and base,
 * or what is below it, decides.  base NULL: of all layers.
 */
TD_CO TD_CHECK int td_image_extent_above(struct td_image *im, const struct td_image *base, uint64_t off,
					 uint64_t len, struct td_extent *ret);

/* -EINVAL: smaller without TD_RESIZE_SHRINK. */
TD_CO TD_CHECK int td_image_resize(struct td_image *im, uint64_t size, unsigned flags,
				   struct td_err *ret_err);

/*
 * Check this image, under any filters, and repair it; not its backing images.  Opened with TD_OPEN_CHECK; after a
 * repair it is to be closed.  0: ret says what is wrong; -ENOTSUP: the format has nothing to check; -errno: it could
 * not be done, ret->errors says the same.
 */
TD_CO TD_CHECK int td_image_check(struct td_image *im, unsigned fix, struct td_check *ret);

/*
 * Snapshots inside the image, under any filters.  A power cut at any moment leaves all as it was or all as it is to be,
 * and what was flushed before is in it.  The disk waits meanwhile: all of its tables are read, and most written anew.
 *	CREATE	of what the disk holds now, under a name that no other has
 *	APPLY	the disk becomes what it was, of the size that it had; what it holds now is lost, the snapshot stays
 *	DELETE	its space is given back
 * name: of APPLY and DELETE also an id, where no name is the same.  -ENOENT, -EEXIST; -ENOTSUP: the format has none.
 * progress: in bytes of tables, may be NULL.
 */
TD_CO TD_CHECK int td_image_snapshot(struct td_image *im, enum td_snap_op op, const char *name,
				     const struct td_progress *progress, struct td_err *ret_err);

/* All of them; *ret is the caller's: td_snaps_done.  None in a format that has no snapshots. */
TD_CO TD_CHECK int td_image_snapshots(struct td_image *im, struct td_snaps *ret, struct td_err *ret_err);
void td_snaps_done(struct td_snaps *s);

/*
 * Change what create would be told, of an image that nobody uses; unknown options are refused, and what the format
 * cannot do any more.  A power cut leaves each option as it was or as it is to be.  progress: may be NULL.
 */
TD_CO TD_CHECK int td_image_amend(struct td_image *im, struct td_opts *opts,
				  const struct td_progress *progress, struct td_err *ret_err);

/*
 * Record another backing file in the image; path as it is to be recorded (relative: to the image's own folder), NULL:
 * none.  format NULL: it is not said.  For an image that is closed soon: im->backing is still the old one.
 */
TD_CO TD_CHECK int td_image_set_backing(struct td_image *im, const char *path, const char *format,
					struct td_err *ret_err);

/*
 * Drop all that this layer holds.  For commit: what the image reads as must be on stable storage in its backing image.
 * -ENOTSUP: it cannot be emptied, or there is no backing image.
 */
TD_CO TD_CHECK int td_image_empty(struct td_image *im, struct td_err *ret_err);

/*
 * Change the dirty bitmaps of this image, under any filters.  Durable when it returns 0, and as it was before when it
 * does not.  Nothing else may be in flight.  -ENOENT: there is none of this name; -EEXIST: there is one already;
 * -EUCLEAN: it is inconsistent, and can only be removed.
 */
TD_CO TD_CHECK int td_image_bitmap(struct td_image *im, const struct td_bitmap_op *op,
				   struct td_err *ret_err);

/* Which bitmaps it has; none where the format has no such thing.  From anywhere.  *ret: see td_bitmap_list_done. */
TD_CHECK int td_image_bitmaps(const struct td_image *im, struct td_bitmap_list *ret);
void td_bitmap_list_done(struct td_bitmap_list *l); /* empty then */

/*
 * Are the bytes from off on dirty?  *ret_len of them (1..len) have that answer; more may follow with the same.
 * -ENOENT: there is no valid bitmap of this name; -EINVAL: not in the disk.
 */
TD_CO TD_CHECK int td_image_bitmap_extent(struct td_image *im, const char *name, uint64_t off, uint64_t len,
					  bool *ret_dirty, uint64_t *ret_len);

/* The image below any filters: the one that has a backing image, or could have. */
struct td_image *td_image_layer(const struct td_image *im);

/*
 * Where a backing file of this name is, if im records it: relative to im's own folder.  *ret_path is the caller's to
 * free.  -ENOTSUP: not a plain path (json:, nbd:, ...); -EUCLEAN: empty.
 */
TD_CHECK int td_image_backing_path(const struct td_image *im, const char *name, char **ret_path,
				   struct td_err *ret_err);

/*
 * For format drivers whose images name a parent more than once: the first name of those that are tried that is there is
 * its name, else the first of all, which is what is missing.  Looking is no opening: whether that file may be opened is
 * decided elsewhere.  What is no plain path is passed over.  All zero at first; -ENOMEM.
 */
struct td_backing_names {
	char *first, *found;
};

/* Once for each name, in the order of preference.  -ENOMEM only: a name that leads nowhere is no error. */
TD_CHECK int td_backing_try(const struct td_image *im, struct td_backing_names *n, const char *name);

/* im->backing_path is the one, NULL: there was none. */
void td_backing_take(struct td_image *im, struct td_backing_names *n);

/*
 * For format drivers: the image breaks its format, or its storage does not keep what was written.  Refuse writes from
 * here on, keep reading.
 */
void td_image_freeze(struct td_image *im);

/* ---- chain.c: for format drivers ---- */

/*
 * Read what this layer does not hold from im's backing chain: bytes from the first layer that has them, zeros where
 * none has, zeros past a shorter backing image's end.  Walks, never recurses.
 */
TD_CO TD_CHECK int td_chain_read(struct td_image *im, uint64_t off, const struct td_iov *iov);

/* Does the chain below im read as zeros at off, for how long?  For copy-on-write that need not copy. */
TD_CO TD_CHECK int td_chain_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);

/* What one layer says, checked.  A driver without the slot holds everything. */
TD_CO TD_CHECK int td_layer_extent(struct td_image *im, uint64_t off, uint64_t len, struct td_extent *ret);

/*
 * Change options of the uppermost driver of this name in im's own stack, at once, while it is used.  -ENOENT: there is
 * none; -ENOTSUP: it has none that can be changed; else what its set() says.
 */
TD_CHECK int td_image_set(struct td_image *im, const char *driver, struct td_opts *opts,
			  struct td_err *ret_err);

/* on: the caller waits for the last request of im and its chain, so nothing holds one back; off: as ever. */
void td_image_drain(struct td_image *im, bool on);

/* What one image counts for itself; nothing of its child.  *ret is filled anew. */
void td_image_counters(const struct td_image *im, struct td_counters *ret);

/* ---- part.c: for format drivers whose images consist of more than one file ---- */

/*
 * Open a file that im names as holding some of its bytes, from im's open() only.  name: as the image has it, relative
 * to im's own folder.  Where it may lie is the policy's to say, as for a backing file; read-only, locks, direct= and
 * align= are as im's.  drv NULL: the file's bytes; else a stack of drv over it, to which opts are given.  flags:
 * TD_OPEN_GROW, if without drv the file's length is to be seen to the byte and may grow; all others are im's.
 *
 * *ret_part belongs to the driver: td_image_close_part in its close(), or when its open() fails.  -EUCLEAN: im itself,
 * or a file that is a part already.
 */
TD_CO TD_CHECK int td_image_open_part(struct td_image *im, const char *name, const struct td_driver *drv,
				      struct td_opts *opts, unsigned flags, struct td_image **ret_part,
				      struct td_err *ret_err);
TD_CO TD_CHECK int td_image_close_part(struct td_image *im, struct td_image *part);

/* Where that is.  *ret_path is the caller's to free. */
TD_CHECK int td_image_part_path(const struct td_image *im, const char *name, char **ret_path,
				struct td_err *ret_err);

/*
 * What lies below [start, start + len) of im is the backing image of part, which has those bytes of im: td_chain_read
 * and td_chain_extent of part see it.  im's own backing image may be opened later.  -ENOMEM.
 */
TD_CHECK int td_image_part_window(struct td_image *im, struct td_image *part, uint64_t start, uint64_t len);

/* Is there anything of that name?  It is not opened, and may be what may not be. */
bool td_image_part_exists(const struct td_image *im, const char *name);

/*
 * Make a further file of a new image, from create(): name, without a '/', beside c->path.  size: as a raw disk's, with
 * c->opts' preallocation; 0: the format fills it.  *ret_part is open for writing and may grow; td_image_close.  What
 * was made is removed again if the create fails.
 */
TD_CO TD_CHECK int td_image_create_part(const struct td_create *c, const char *name, uint64_t size,
					struct td_image **ret_part, struct td_err *ret_err);

/* ---- registry.c ---- */

const struct td_driver *td_driver_find(const char *name); /* "raw" is aio; NULL: unknown */
const struct td_driver *td_driver_at(unsigned i);         /* 0, 1, ... NULL */

/* The surest driver for a file that starts so; NULL: none is (then it may be raw). */
const struct td_driver *td_driver_probe(const void *head, size_t len);

/*
 * The name of the image format that a file starts or ends as, whether a driver for it exists or not; NULL: none that
 * is known.  This is what keeps a probe from calling somebody's vmdk a raw disk.
 */
const char *td_magic_name(const void *head, size_t head_len, const void *tail, size_t tail_len);

/* Aligned memory for data: from a small per-thread cache of power-of-two sizes.  NULL: no memory. */
void *td_buf_alloc(size_t len);
void td_buf_free(void *buf, size_t len);
size_t td_buf_cached(void); /* bytes that this thread's cache keeps, unused */

bool td_is_zero(const void *buf, size_t len); /* any alignment */

/* len zeros to be written, all from one buffer: as so many iovecs, into v; or into an array that the caller frees. */
unsigned td_zero_pieces(uint64_t len);
unsigned td_put_zeros(struct iovec *v, uint64_t len);
TD_CHECK int td_zero_iov(uint64_t len, struct iovec **ret_vec, struct td_iov *ret);

#endif
