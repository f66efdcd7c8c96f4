"""What a Spark job of the pipeline uses of Spark, in short; run by spark-submit, for its classes to be archived."""

from __future__ import annotations

import tempfile

from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def main() -> None:
    """Run an RDD and a DataFrame through what the jobs do with them."""
    spark = SparkSession.builder.getOrCreate()
    numbers = spark.sparkContext.parallelize(range(9), 2)
    numbers.map(lambda n: (n % 2, n)).groupByKey().collect()
    rows = spark.range(100).mapInArrow(lambda batches: batches, "id long").persist()
    sums = rows.groupBy((F.col("id") % 3).alias("third")).agg(F.sum("id"), F.avg("id"))
    joined = rows.join(sums, rows["id"] == sums["third"], "left").orderBy("id")
    with tempfile.TemporaryDirectory() as folder:
        joined.write.parquet(f"{folder}/rows")
        spark.read.parquet(f"{folder}/rows").where("third > 0").distinct().collect()
    spark.stop()


if __name__ == "__main__":
    main()
