"""Make a bucket where there is none."""

import sys

import s3fs

bucket = sys.argv[1]
storage = s3fs.S3FileSystem()
if not storage.exists(bucket):
    storage.mkdir(bucket)
print(f"bucket {bucket} is there")
